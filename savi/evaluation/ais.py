"""Annealed importance sampling, and its check from both sides: bidirectional Monte Carlo."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from savi.errors import InputError, require_at_least
from savi.evaluation.annealing import AnnealedEstimate, AnnealedPath, Annealing
from savi.evaluation.pieces import ExampleStreams, Progress, silent, ticks
from savi.evaluation.proposals import standard_normal
from savi.types import Observations
from savi.vae.distributions import Posterior
from savi.vae.model import VAE
from savi.vae.monte_carlo import example_slices


@torch.no_grad()
def annealed_log_likelihood(
    model: VAE,
    x: Observations,
    annealing: Annealing,
    generator: torch.Generator,
    initial: Posterior | None = None,
    progress: Progress = silent,
) -> AnnealedEstimate:
    """Log p(x) by annealed importance sampling (Neal 2001; Wu et al. 2017, arXiv 1611.04273).

    From z_0 ~ q0, Hamiltonian Monte Carlo moves that leave p_β(z) ∝ q0(z)^{1−β} p(x, z)^β
    invariant at β_1, …, β_{T−1} give z_1, …, z_{T−1} and the weight

        log w = Σ_{t=1}^T (β_t − β_{t−1}) [log p(x, z_{t−1}) − log q0(z_{t−1})],    E w = p(x),

    whether the chains have reached equilibrium or not. The result for an example depends on its
    place in the batch (the noise), not on what else is in the batch, and the batch is taken in
    pieces of fixed memory. To rounding: an acceptance close to its threshold may go either way.

    The ``initial`` law is q0, by default N(0, I). The nearer it is to the posterior, the tighter
    is the estimate: see :func:`savi.evaluation.proposals.laplace_at_mode`.

    Raises:
        InputError: for an ``initial`` without a density or for another number of examples.
    """
    paths = _paths(model, x, annealing, generator, initial, progress, walks=1)
    return AnnealedEstimate.join([path.forward() for _, path in paths])


def _paths(
    model: VAE,
    x: Observations,
    annealing: Annealing,
    generator: torch.Generator,
    initial: Posterior | None,
    progress: Progress,
    walks: int,
) -> Iterator[tuple[slice, AnnealedPath]]:
    """The paths of pieces of a batch, whose chains decode to no more than a chunk."""
    q0 = standard_normal(model, x) if initial is None else initial
    if len(q0.mean) != len(x):
        raise InputError(
            f"initial has {len(q0.mean)} examples and x has {len(x)}: give one posterior for each"
        )
    streams = ExampleStreams.spawn(len(x), generator, q0.mean)
    parts = list(example_slices(len(x), annealing.chains * model.likelihood.num_outputs))
    tick = ticks(progress, len(parts) * annealing.moves(walks))
    for part in parts:
        yield part, AnnealedPath(model, x[part], q0[part], annealing, streams[part], tick)


#: From observations to a law near their posteriors.
Initial = Callable[[Tensor], Posterior]


@dataclass(frozen=True)
class Sandwich:
    """Bounds on log p(x) of n simulated examples, in nats: lower ≤ log p(x) ≤ upper on average.

    Attributes:
        x: the examples.
        forward: annealed importance sampling from q0: its log-likelihood is the lower bound.
        reverse: the same walks backwards from the codes that the examples were made of.
    """

    x: Float[Tensor, "n D"]
    forward: AnnealedEstimate
    reverse: AnnealedEstimate

    @property
    def lower(self) -> Float[Tensor, " n"]:
        """Log (1/C) Σ w of the forward chains."""
        return self.forward.log_likelihood

    @property
    def upper(self) -> Float[Tensor, " n"]:
        """−log (1/C) Σ 1/w of the reverse chains."""
        log_weights = self.reverse.log_weights
        return math.log(len(log_weights)) - (-log_weights).logsumexp(dim=0)

    @property
    def gap(self) -> Float[Tensor, " n"]:
        """Upper − lower; noise can make a small one negative."""
        return self.upper - self.lower


@torch.no_grad()
def bidirectional_monte_carlo(
    model: VAE,
    n: int,
    annealing: Annealing,
    generator: torch.Generator,
    initial: Initial | None = None,
    progress: Progress = silent,
    like: Observations | None = None,
) -> Sandwich:
    """How tight annealed importance sampling is, where an exact posterior sample is at hand.

    z* ~ p(z) and x ~ p(x|z*) make z* a sample of p(z|x). Walks from there to q0, by the moves of
    annealed importance sampling in the reverse order, have E 1/w = 1/p(x): with the walks from q0
    they enclose log p(x) (Grosse et al. 2015, arXiv 1511.02543; 2016, arXiv 1606.02275). What
    the gap says of other data rests on the n simulated ones being like them. What gives the
    ``initial`` q0 from x, by default N(0, I), must not know z*. A model that is given something
    of an example is given that of the n examples ``like``.

    Raises:
        InputError: for less than one example, or for an ``initial`` without a density.
    """
    require_at_least("n", n, 1)
    z, x = simulate(model, n, generator, like)
    q0 = None if initial is None else initial(x)
    paths = _paths(model, x, annealing, generator, q0, progress, walks=2)
    walks = [(path.forward(), path.reverse(z[part])) for part, path in paths]
    return Sandwich(x, *map(AnnealedEstimate.join, zip(*walks, strict=True)))


def simulate(
    model: VAE, n: int, generator: torch.Generator, like: Observations | None = None
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n D"]]:
    """Codes of the prior, and observations of them with their noise."""
    weight = next(model.decoder.parameters())
    z = model.prior.sample(n, generator, weight.dtype).to(weight.device)
    return z, model.draw(z, generator, like)
