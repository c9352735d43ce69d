"""What the figures of a run show: a model looked at on its test split."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from savi.data import TensorDataModule
from savi.evaluation.collapse import used_units
from savi.training.module import SemiAmortizedVAE
from savi.vae.distributions import stack
from savi.vae.monte_carlo import expected_bound

#: Examples whose posteriors are looked at, and of those whose inner steps and Hessians are.
OBSERVED, TRACED_EXAMPLES = 1_000, 64

#: Points on the axis of the inner steps at most, and the largest P whose Hessians are taken.
TRACED_STEPS, LARGEST_HESSIAN = 50, 512

#: Examples in a grid: six by six.
SHOWN = 36

#: Latent dimensions that are traversed at most, and the values each one takes.
TRAVERSED, TRAVERSAL = 8, (-2.5, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5)


@dataclass(frozen=True)
class Observed:
    """A model on the first examples of the test split, all on the CPU.

    Attributes:
        x: the first 36 observations.
        init: decoder means of x at λ0.
        final: decoder means of x at λK; ``init`` itself without an inner solve.
        samples: decoder means of 36 codes from the prior, or sequences that are drawn; a
            conditional model is given the contexts of the test examples.
        means: posterior means of up to 1,000 examples.
        labels: their classes, where the data have any.
        traversals: [R, V, D], decoder means where one active dimension takes the V values of
            ``TRAVERSAL`` and the others are the first example's posterior mean.
        traversed: those R dimensions, by falling KL.
        kl: [d], KL(q ‖ p) of each dimension, averaged over the examples.
        stationarity: relative stationarity at λK; None without inner steps.
        curvature: smallest eigenvalue of ∇²J at λK for 64 examples (under an active constraint,
            of the reduced Hessian); None without inner steps, for fresh noise, which leaves no
            fixed J, and for more than 512 variational parameters.
        trace: L(λk) and relative stationarity at k = 0, …, K; None without inner steps.
    """

    x: Float[Tensor, "S D"]
    init: Float[Tensor, "S D"]
    final: Float[Tensor, "S D"]
    samples: Float[Tensor, "S D"]
    means: Float[Tensor, "N d"]
    labels: Int[Tensor, " N"] | None
    traversals: Float[Tensor, "R V D"]
    traversed: list[int]
    kl: Float[Tensor, " d"] | None
    stationarity: Float[Tensor, " N"] | None
    curvature: Float[Tensor, " M"] | None
    trace: tuple[Float[Tensor, "K+1 M"], Float[Tensor, "K+1 M"]] | None


@torch.no_grad()
def observe(module: SemiAmortizedVAE, data: TensorDataModule) -> Observed:
    """Look at a model; every figure of it is drawn from the result.

    Deterministic, and without a trace in random streams and in the count of decoder evaluations:
    training can go on as if nothing had been looked at.
    """
    x = data.rows("test")[:OBSERVED]
    labels = data.labels("test")
    vae, steps = module.vae, module.inference.test_max_steps
    with _at_rest(module):
        parts = [
            module.inference(
                vae, batch.to(module.device), max_steps=steps, generator=module.evaluation_noise(n)
            )
            for n, batch in enumerate(x.split(data.batch_size))
        ]
        batches = x.to(module.device).split(data.batch_size)
        pairs = zip(parts, batches, strict=True)
        q = stack([module.family.distribution(part.value, vae.given(b)) for part, b in pairs])
        kl = q.kl_per_dimension().mean(dim=0) if vae.prior.standard and q.closed_kl else None
        traversed = _active(q.mean, q.mean.var(dim=0) if kl is None else kl)
        shown = batches[0][:SHOWN]
        given = vae.given(shown)
        init = given.mean(module.family.mean(parts[0].init[:SHOWN], given))
        along = _along(q.mean[0], traversed)
        first = batches[0][:1].expand(along.shape[1], -1)
        solved = parts[0].solution is not None
        norms = [part.solution.stationarity for part in parts if part.solution]
        traced = x[:TRACED_EXAMPLES].to(module.device)
        return Observed(
            x=x[: len(init), : data.dim],
            init=init.cpu(),
            final=given.mean(q.mean[: len(init)]).cpu() if solved else init.cpu(),
            samples=vae.sample(
                SHOWN, torch.Generator().manual_seed(module.seed), _repeated(shown, SHOWN)
            ).cpu(),
            means=q.mean.cpu(),
            labels=None if labels is None else labels[:OBSERVED],
            traversals=vae.given(first).mean(along).cpu(),
            traversed=traversed,
            kl=None if kl is None else kl.cpu(),
            stationarity=torch.cat(norms).cpu() if norms else None,
            curvature=smallest_curvature(module, traced) if solved else None,
            trace=inner_trace(module, traced) if solved else None,
        )


@contextmanager
def _at_rest(module: SemiAmortizedVAE) -> Iterator[None]:
    """In evaluation mode, with the count of decoder evaluations restored afterwards."""
    training, evaluations = module.training, module.vae.decoder_evaluations
    module.eval()
    try:
        yield
    finally:
        module.train(training)
        module.vae.decoder_evaluations = evaluations


def _repeated(x: Float[Tensor, "S E"], n: int) -> Float[Tensor, "n E"]:
    """So many rows, the same ones again where there are fewer."""
    return x[torch.arange(n, device=x.device) % len(x)]


def _active(means: Float[Tensor, "N d"], use: Float[Tensor, " d"]) -> list[int]:
    """The active dimensions of the largest use, by falling use."""
    active = used_units(means)
    return [i for i in use.argsort(descending=True).tolist() if active[i]][:TRAVERSED]


def _along(centre: Float[Tensor, " d"], traversed: list[int]) -> Float[Tensor, "R V d"]:
    """Codes that differ from the centre in one dimension, which takes all the values."""
    codes = centre.repeat(len(traversed), len(TRAVERSAL), 1)
    for row, dimension in enumerate(traversed):
        codes[row, :, dimension] = codes.new_tensor(TRAVERSAL)
    return codes


@torch.no_grad()
def inner_trace(module: SemiAmortizedVAE, x: Tensor) -> tuple[Tensor, Tensor]:
    """L(λk) and relative stationarity at k = 0, …, K, each of shape [K+1, B].

    K is the number of test steps, at most 50. Every λk is computed from the start with the same
    noise; the bound's own noise is another, the same for all k.
    """
    elbos, norms = [], []
    for k in range(min(module.inference.test_max_steps, TRACED_STEPS) + 1):
        noise = torch.Generator().manual_seed(module.seed)
        inference = module.inference(module.vae, x, max_steps=k, generator=noise)
        q = module.family.distribution(inference.value, module.vae.given(x))
        fixed = torch.Generator().manual_seed(module.seed + 1)
        elbos.append(expected_bound(module.vae, q, x, 64, fixed).elbo)
        solution = inference.solution
        norms.append(torch.ones_like(elbos[0]) if solution is None else solution.stationarity)
    return torch.stack(elbos).cpu(), torch.stack(norms).cpu()


@torch.no_grad()
def smallest_curvature(module: SemiAmortizedVAE, x: Float[Tensor, "B D"]) -> Tensor | None:
    """The smallest eigenvalue of ∇²J at each example's λK, shape [B]; None where it is not known.

    J and λK are those of one solve: they see the same noise.
    """
    inference, vae = module.inference, module.vae
    init = inference.start(x)
    if inference.noise_name == "fresh" or init.shape[1] > LARGEST_HESSIAN:
        return None
    steps, generator = inference.test_max_steps, torch.Generator().manual_seed(module.seed)
    like = init.new_empty(len(init), module.family.latent_dim)
    noise = inference.draw_noise(like, generator)
    solution = inference(vae, x, max_steps=steps, noise=noise, init=init)
    problem = inference.problem(vae, x, init, max_steps=steps, noise=noise)
    hessian = problem.linearize(solution.value).operator().dense().cpu().double()
    eigenvalues = torch.full_like(hessian[:, 0, 0], torch.nan)
    finite = hessian.isfinite().all(dim=-1).all(dim=-1)
    eigenvalues[finite] = torch.linalg.eigvalsh(hessian[finite])[:, 0]
    return eigenvalues
