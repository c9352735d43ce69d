"""A trained model, used in the units and shapes of its data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from savi.data.form import Form, Values
from savi.errors import InputError, require_at_least
from savi.evaluation.bounds import importance_log_likelihood
from savi.evaluation.optimum import LocalOptimum, local_optimum
from savi.evaluation.proposals import with_density
from savi.experiments.codes import sampled_codes
from savi.experiments.reload import restore
from savi.training.module import SemiAmortizedVAE
from savi.types import Codes, Observations, PerExample, Rows
from savi.vae.distributions import Posterior, stack
from savi.vae.monte_carlo import expected_bound

#: Examples that are inferred at once, unless the model is told another number.
BATCH = 256


@dataclass(frozen=True)
class Refined:
    """The best posterior of each example within the family, and how well it is known to be so.

    Attributes:
        posterior: q at the optimum.
        certificate: stationarity, least curvature and what is left to gain (nats), by example.
    """

    posterior: Posterior
    certificate: LocalOptimum


@dataclass
class TrainedModel:
    """A trained model, which takes and gives the data set's own values in its own shapes.

    Every method works on examples [N, ...] of any number in the memory of ``batch_size`` of them,
    on the device that the model is on (:meth:`to`), and gives results on the CPU, without graphs.
    All noise is drawn from the run's seed: the same call gives the same answer.

    Attributes:
        module: the Lightning module, whose numbers are in the model's units.
        form: the map between these and the data's own.
        batch_size: how many examples are worked on at once.
        second: a VAE on this one's codes, whose samples are decoded in place of the prior's.
    """

    module: SemiAmortizedVAE
    form: Form
    batch_size: int = BATCH
    second: TrainedModel | None = None

    def __post_init__(self) -> None:
        """See that a second VAE is one of codes.

        Raises:
            InputError: if its examples are not of their size.
        """
        d = self.module.vae.latent_dim
        if self.second is not None and (found := self.second.module.vae.likelihood.dim) != d:
            raise InputError(
                f"second is a model of {found} numbers and codes have {d}: give a run on what "
                "savi-evaluate codes=FILE.npz, or codes(...), gave of this one"
            )

    def to(self, device: str | torch.device) -> Self:
        """Move the model to a device; itself."""
        self.module.to(device)
        if self.second is not None:
            self.second.to(device)
        return self

    def encode(self, values: Values, *, refine: bool = True) -> Posterior:
        """q(z|x) of each example: refined as in the run's tests, or as the encoder says.

        Raises:
            InputError: for examples unlike the run's data, and without ``refine`` for a model that
                has no encoder.
        """
        inferred = self._inferred(values, refine)
        return stack([self._posterior(lam).cpu() for _, lam in inferred])

    def decode(self, codes: Codes) -> Float[Tensor, "N ..."]:
        """The mean of p(x|z) at each code [N, d], as examples."""
        return self._decoded(codes, self.module.vae.likelihood.mean)

    @torch.no_grad()
    def _decoded(self, codes: Codes, answer: Callable[[Tensor], Tensor]) -> Float[Tensor, "N ..."]:
        """What is made of the decoder's outputs at each code, as examples."""
        vae = self.module.vae
        like = next(vae.parameters())
        parts = torch.as_tensor(codes).split(self.batch_size)
        return self.form.restored(torch.cat([answer(vae.decode(z.to(like))).cpu() for z in parts]))

    def codes(self, values: Values) -> Codes:
        """A sample of q(z|x) for each example, [N, d]: together, of the aggregated posterior.

        They are what a second VAE is trained on (Dai and Wipf 2019).
        """
        return sampled_codes(self.module, self._batches(values))

    def reconstruct(self, values: Values, *, refine: bool = True) -> Float[Tensor, "N ..."]:
        """The decoder's answer at the mean of q(z|x), in the shape of the examples."""
        return self.decode(self.encode(values, refine=refine).mean).reshape(tuple(values.shape))

    def sample(self, n: int, *, seed: int = 0, noise: bool = False) -> Float[Tensor, "n ..."]:
        """Decoder means at codes drawn from the prior, or samples with the observation ``noise``.

        With a ``second`` VAE the codes are samples of that one, with its noise.
        """
        require_at_least("n", n, 1)
        generator = torch.Generator().manual_seed(seed)
        if self.second is None:
            codes = self.module.vae.prior.sample(n, generator)
        else:
            codes = self.second.sample(n, seed=seed, noise=True)
            generator = torch.Generator().manual_seed(seed + 1)
        if not noise:
            return self.decode(codes)
        likelihood = self.module.vae.likelihood
        return self._decoded(codes, lambda outputs: likelihood.sample(outputs, generator))

    @torch.no_grad()
    def elbo(
        self, values: Values, *, samples: int | None = None, refine: bool = True
    ) -> PerExample:
        """The evidence lower bound of each example in nats, in the units of the run's figures.

        Its noise is independent of the noise that a refinement has seen.

        Args:
            values: the examples.
            samples: of the expectation; by default as many as the run's evaluation takes.
            refine: see :meth:`encode`.
        """
        count = self.module.settings["samples"] if samples is None else samples
        require_at_least("samples", count, 1)
        bounds = [
            expected_bound(
                self.module.vae,
                self._posterior(lam),
                x,
                count,
                self.module.evaluation_noise(-1 - part),
            )
            for part, (x, lam) in enumerate(self._inferred(values, refine))
        ]
        return torch.cat([bound.elbo.cpu() for bound in bounds])

    @torch.no_grad()
    def log_likelihood(self, values: Values, *, samples: int = 500) -> PerExample:
        """The importance-weighted bound on log p(x) of each example in nats (Burda et al. 2016).

        The proposal is the refined q, or the Laplace approximation there if that is a point.
        """
        require_at_least("samples", samples, 1)
        estimates = [
            importance_log_likelihood(
                self.module.vae,
                with_density(self.module.family, self.module.vae, lam),
                x,
                samples,
                self.module.evaluation_noise(-1 - part),
            )
            for part, (x, lam) in enumerate(self._inferred(values, True))
        ]
        return torch.cat([estimate.log_likelihood.cpu() for estimate in estimates])

    @torch.no_grad()
    def refine(self, values: Values, *, max_steps: int = 100) -> Refined:
        """The posterior that is best for each example, by a converged solve with its certificate.

        Where :meth:`encode` takes the run's few steps, this takes Levenberg–Marquardt steps until
        nothing is left to gain.
        """
        require_at_least("max_steps", max_steps, 1)
        parts, family = [], self.module.family
        for part, x in enumerate(self._batches(values)):
            noise = self.module.evaluation_noise(-1 - part)
            start = self.module.inference.start(x)
            found = local_optimum(
                self.module.vae, family, x, start, steps=max_steps, generator=noise
            )
            q = self._posterior(found.value).cpu()
            parts.append((q, LocalOptimum(*(field.cpu() for field in vars(found).values()))))
        fields = zip(*(vars(optimum).values() for _, optimum in parts), strict=True)
        return Refined(stack([q for q, _ in parts]), LocalOptimum(*map(torch.cat, fields)))

    def _batches(self, values: Values) -> Iterator[Observations]:
        require_at_least("batch_size", self.batch_size, 1)
        for x in self.form.seen(values).split(self.batch_size):
            yield x.to(self.module.device)

    @torch.no_grad()
    def _inferred(self, values: Values, refine: bool) -> Iterator[tuple[Observations, Rows]]:
        """The batches in the model's units, and their λ."""
        inference = self.module.inference
        if not refine and inference.encoder is None:
            raise InputError(
                "refine=False: this model has no encoder, so that every posterior is the result of "
                "a refinement: leave refine out"
            )
        steps = inference.test_max_steps if refine else 0
        for part, x in enumerate(self._batches(values)):
            noise = self.module.evaluation_noise(part)
            yield x, inference(self.module.vae, x, max_steps=steps, generator=noise).value

    @torch.no_grad()
    def _posterior(self, lam: Rows) -> Posterior:
        return self.module.family.distribution(lam, self.module.vae)


def load(
    run_or_checkpoint: str | Path,
    *,
    imports: Sequence[str] | None = None,
    device: str = "cpu",
    batch_size: int = BATCH,
    second: str | Path | None = None,
) -> TrainedModel:
    """The model of a checkpoint, or of the best epoch of a run, without its data.

    The file is read in safe mode: nothing in it is executed.

    Args:
        run_or_checkpoint: a run folder, or a ``.ckpt`` file.
        imports: the modules to import for it; by default those that the checkpoint names, which
            are printed first. An empty list imports none.
        device: where it works.
        batch_size: how many examples are worked on at once.
        second: a run of a second VAE, on the codes of the first.

    Raises:
        InputError: for a missing or foreign checkpoint, and for one that needs other modules or
            does not know the units of its data; and for a second one of other data.
    """
    other = None if second is None else load(second, imports=imports, batch_size=batch_size)
    module, data = restore(run_or_checkpoint, imports)
    if module.preprocessing is None:
        raise InputError(
            f"the checkpoint of '{run_or_checkpoint}' does not hold the mean and the scale of its "
            "data, as those of version 0.1 and later do: train it again"
        )
    form = Form(module.preprocessing, data.get("layout", "channels_first"), module.seed)
    return TrainedModel(module, form, batch_size, other).to(device)
