"""A trained model, used in the units and shapes of its data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeAlias

import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from savi.data.batches import with_labels
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

#: A class for each example, from 0 on.
Labels: TypeAlias = Int[Tensor, " N"] | NDArray[Any] | Sequence[int]

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
    All noise is drawn from the run's seed: the same call gives the same answer. A model of
    ``model.condition=labels`` needs the ``labels`` of the examples, or those that codes are decoded
    with.

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

    def encode(
        self, values: Values, *, labels: Labels | None = None, refine: bool = True
    ) -> Posterior:
        """q(z|x) of each example: refined as in the run's tests, or as the encoder says.

        Raises:
            InputError: for examples unlike the run's data, and without ``refine`` for a model that
                has no encoder.
        """
        inferred = self._inferred(values, labels, refine)
        return stack([self._posterior(lam, x).cpu() for x, lam in inferred])

    def codes(self, values: Values, *, labels: Labels | None = None) -> Codes:
        """A sample of q(z|x) for each example, [N, d]: together, of the aggregated posterior.

        They are what a second VAE is trained on (Dai and Wipf 2019).
        """
        return sampled_codes(self.module, self._batches(values, labels))

    def decode(self, codes: Codes, *, labels: Labels | None = None) -> Float[Tensor, "N ..."]:
        """The mean of p(x|z) at each code [N, d], as examples; of sequences the likeliest words."""
        return self._decoded(codes, labels, None)

    def _decoded(
        self,
        codes: Codes,
        labels: Labels | None,
        generator: torch.Generator | None,
        noise: bool = False,
    ) -> Float[Tensor, "N ..."]:
        like, dim = next(self.module.vae.parameters()), self.module.vae.likelihood.dim
        codes = torch.as_tensor(codes)
        rows = self._with_labels(torch.zeros(len(codes), dim), labels)
        parts = zip(codes.split(self.batch_size), rows.split(self.batch_size), strict=True)
        vae = self.module.vae
        if vae.autoregressive or noise:
            drawn = [vae.draw(z.to(like), generator, x.to(like))[:, :dim].cpu() for z, x in parts]
            return self.form.restored(torch.cat(drawn))
        with torch.no_grad():
            decoded = [vae.given(x.to(like)).mean(z.to(like)).cpu() for z, x in parts]
        return self.form.restored(torch.cat(decoded))

    def reconstruct(
        self, values: Values, *, labels: Labels | None = None, refine: bool = True
    ) -> Float[Tensor, "N ..."]:
        """The decoder's answer at the mean of q(z|x), in the shape of the examples."""
        mean = self.encode(values, labels=labels, refine=refine).mean
        decoded = self.decode(mean, labels=labels)
        return decoded if isinstance(values, list) else decoded.reshape(tuple(values.shape))

    def sample(
        self, n: int, *, labels: Labels | None = None, seed: int = 0, noise: bool = False
    ) -> Float[Tensor, "n ..."]:
        """Decoder means at codes drawn from the prior, or samples with the observation ``noise``.

        Of sequences the words are drawn: as numbers, which ``form.vocabulary`` turns into lines.
        With a ``second`` VAE the codes are samples of that one, with its noise.
        """
        require_at_least("n", n, 1)
        generator = torch.Generator().manual_seed(seed)
        if self.second is None:
            codes = self.module.vae.prior.sample(n, generator)
        else:
            codes = self.second.sample(n, seed=seed, noise=True)
            generator = torch.Generator().manual_seed(seed + 1)
        return self._decoded(codes, labels, generator, noise)

    @torch.no_grad()
    def elbo(
        self,
        values: Values,
        *,
        labels: Labels | None = None,
        samples: int | None = None,
        refine: bool = True,
    ) -> PerExample:
        """The evidence lower bound of each example in nats, in the units of the run's figures.

        Its noise is independent of the noise that a refinement has seen.

        Args:
            values: the examples.
            labels: see :class:`TrainedModel`.
            samples: of the expectation; by default as many as the run's evaluation takes.
            refine: see :meth:`encode`.
        """
        count = self.module.settings["samples"] if samples is None else samples
        require_at_least("samples", count, 1)
        bounds = [
            expected_bound(
                self.module.vae,
                self._posterior(lam, x),
                x,
                count,
                self.module.evaluation_noise(-1 - part),
            )
            for part, (x, lam) in enumerate(self._inferred(values, labels, refine))
        ]
        return torch.cat([bound.elbo.cpu() for bound in bounds])

    @torch.no_grad()
    def log_likelihood(
        self, values: Values, *, labels: Labels | None = None, samples: int = 500
    ) -> PerExample:
        """The importance-weighted bound on log p(x) of each example in nats (Burda et al. 2016).

        The proposal is the refined q, or the Laplace approximation there if that is a point.
        """
        require_at_least("samples", samples, 1)
        estimates = [
            importance_log_likelihood(
                self.module.vae,
                with_density(self.module.family, self.module.vae.given(x), lam),
                x,
                samples,
                self.module.evaluation_noise(-1 - part),
            )
            for part, (x, lam) in enumerate(self._inferred(values, labels, True))
        ]
        return torch.cat([estimate.log_likelihood.cpu() for estimate in estimates])

    @torch.no_grad()
    def refine(
        self, values: Values, *, labels: Labels | None = None, max_steps: int = 100
    ) -> Refined:
        """The posterior that is best for each example, by a converged solve with its certificate.

        Where :meth:`encode` takes the run's few steps, this takes Levenberg–Marquardt steps until
        nothing is left to gain.
        """
        require_at_least("max_steps", max_steps, 1)
        parts, family = [], self.module.family
        for part, x in enumerate(self._batches(values, labels)):
            noise = self.module.evaluation_noise(-1 - part)
            start = self.module.inference.start(x)
            found = local_optimum(
                self.module.vae, family, x, start, steps=max_steps, generator=noise
            )
            q = self._posterior(found.value, x).cpu()
            parts.append((q, LocalOptimum(*(field.cpu() for field in vars(found).values()))))
        fields = zip(*(vars(optimum).values() for _, optimum in parts), strict=True)
        return Refined(stack([q for q, _ in parts]), LocalOptimum(*map(torch.cat, fields)))

    def _batches(self, values: Values, labels: Labels | None) -> Iterator[Observations]:
        require_at_least("batch_size", self.batch_size, 1)
        for x in self._with_labels(self.form.seen(values), labels).split(self.batch_size):
            yield x.to(self.module.device)

    def _with_labels(self, x: Observations, labels: Labels | None) -> Float[Tensor, "N E"]:
        """What the model is given of examples: x, and their labels if it was trained with them.

        Raises:
            InputError: for labels that it does not take, that are missing, or that it cannot know.
        """
        if not self.module.labelled:
            if labels is not None:
                raise InputError(
                    "labels: this model was trained without them (model.condition=none): leave "
                    "labels out"
                )
            return x
        classes = self.module.hparams["data_classes"]
        if labels is None:
            raise InputError(
                f"this model was trained with model.condition=labels: give labels, {len(x)} whole "
                f"numbers from 0 to {classes - 1}"
            )
        known = torch.as_tensor(labels)
        whole = not (known.is_floating_point() or known.is_complex())
        if known.shape != x.shape[:1] or not whole or known.min() < 0 or known.max() >= classes:
            raise InputError(
                f"labels of shape {list(known.shape)} for {len(x)} examples: give {len(x)} whole "
                f"numbers from 0 to {classes - 1}"
            )
        return with_labels(x, known)

    @torch.no_grad()
    def _inferred(
        self, values: Values, labels: Labels | None, refine: bool
    ) -> Iterator[tuple[Observations, Rows]]:
        """The batches in the model's units, and their λ."""
        inference = self.module.inference
        if not refine and inference.encoder is None:
            raise InputError(
                "refine=False: this model has no encoder, so that every posterior is the result of "
                "a refinement: leave refine out"
            )
        steps = inference.test_max_steps if refine else 0
        for part, x in enumerate(self._batches(values, labels)):
            noise = self.module.evaluation_noise(part)
            yield x, inference(self.module.vae, x, max_steps=steps, generator=noise).value

    @torch.no_grad()
    def _posterior(self, lam: Rows, x: Observations) -> Posterior:
        return self.module.family.distribution(lam, self.module.vae.given(x))


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
        run_or_checkpoint: a run folder, a ``.ckpt`` file, or the name of a model that comes with
            savi: ``digits``.
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
