"""All the final figures of a trained model on a split."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from savi.evaluation.advice import Advice
from savi.evaluation.annealing import Annealing
from savi.evaluation.autoencoder import autoencoder_error
from savi.evaluation.bounds import importance_log_likelihood
from savi.evaluation.collapse import (
    Collapse,
    active_units,
    measure_collapse,
    usage,
)
from savi.evaluation.gaps import Gaps, generalization, measure_gaps
from savi.evaluation.log_likelihood import log_likelihood_figures
from savi.evaluation.pieces import Progress, portion, silent
from savi.evaluation.plausible import factorised, implausible, not_finite, worse_than_the_mean
from savi.evaluation.principal import PrincipalComponents
from savi.evaluation.proposals import with_density
from savi.evaluation.trend import still_rising
from savi.evaluation.verdict import Verdict
from savi.inner.solution import Status
from savi.types import Observations, Rows
from savi.vae.distributions import Posterior, stack
from savi.vae.model import GaussianVAE
from savi.vae.mutual_information import mutual_information

if TYPE_CHECKING:
    from savi.data import TensorDataModule
    from savi.training.module import SemiAmortizedVAE

#: Examples that the N × N estimate of the mutual information uses at most.
MUTUAL_INFORMATION_EXAMPLES = 1_000
#: Streams of noise apart from those of the batches, which are numbered from 0.
LATENTS_STREAM, GAPS_STREAM, TRAIN_GAPS_STREAM, AIS_STREAM = 900_001, 900_002, 900_003, 900_004


@dataclass(frozen=True)
class Judgement:
    """What is to be thought of the figures of a run.

    Attributes:
        fault: what is absurd in them, in a sentence; None if nothing is.
        remark: what else their reader must know, in a sentence.
    """

    fault: str | None = None
    remark: str | None = None

    def require_plausible(self) -> None:
        """Refuse figures that no trained model can have.

        Raises:
            FloatingPointError: if there is a fault.
        """
        if self.fault is not None:
            raise FloatingPointError(f"the figures of this run are absurd: {self.fault}")


@dataclass(frozen=True, kw_only=True)
class Evaluation(Judgement):
    """What a model is worth.

    Attributes:
        metrics: the figures, under the names ``test/...`` and ``inner/...``.
        collapse: whether, how and why latent dimensions are unused; None where q has no density.
    """

    metrics: dict[str, float]
    collapse: Collapse | None


@dataclass(frozen=True)
class _Subject:
    """A run, its data, and the split that it is judged on."""

    module: SemiAmortizedVAE
    data: TensorDataModule
    split: str

    def examples(self, split: str | None = None, most: int | None = None) -> Observations:
        """The first rows of a split, this one by default, beside the model."""
        return self.data.rows(split or self.split)[:most].to(self.module.device)

    def density(self, lam: Rows, x: Observations) -> Posterior:
        """q_λ of these examples, or its Laplace approximation where it is a point."""
        return with_density(self.module.family, self.module.vae.given(x), lam)


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """The module in evaluation mode, and afterwards in the one that it was in."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)


@torch.no_grad()
def evaluate(
    module: SemiAmortizedVAE,
    data: TensorDataModule,
    split: str = "test",
    progress: Progress = silent,
    curve: Sequence[float] = (),
    steps: int | None = None,
) -> Evaluation:
    """The figures of ``split``.

    Deterministic: all noise comes from generators seeded by the module's ``seed``, so that a
    reloaded checkpoint gives the same numbers.

    Args:
        module: the trained model; evaluated where its parameters are.
        data: a data module that has been set up.
        split: ``test`` or ``val``.
        progress: told the fraction that is done.
        curve: the ``val/elbo`` of the training, which tells whether it was over.
        steps: that the training took, if it is known.
    """
    subject = _Subject(module, data, split)
    with evaluation_mode(module), factorised(lambda: data.split("train")):
        metrics, q, bound = _pass_over(subject, portion(progress, 0.0, 0.5))
        metrics |= _latents(subject, q)
        metrics |= _gaps(subject)
        progress(0.6)
        metrics |= _annealed(subject, portion(progress, 0.6, 0.9))
        collapse = _collapse(subject, q, bound, still_rising(curve), steps)
        progress(1.0)
    if collapse is not None:
        metrics |= _prefixed(split, collapse.metrics())
    judgement = judge(metrics, module, data, split)
    if judgement.fault is not None and collapse is not None:
        collapse = replace(
            collapse, verdict=Verdict("undecided", "The figures are absurd, and say nothing.")
        )
    return Evaluation(judgement.fault, judgement.remark, metrics=metrics, collapse=collapse)


@torch.no_grad()
def judge(
    metrics: dict[str, float],
    module: SemiAmortizedVAE,
    data: TensorDataModule,
    split: str = "test",
) -> Judgement:
    """What is to be thought of the figures that :func:`evaluate` has found of a split."""
    x = data.split(split).to(module.device)
    if not isinstance(module.vae, GaussianVAE):
        # Of no other likelihood the simplest model's bound is known.
        discrete = module.vae.likelihood.support in ("binary", "levels")
        return Judgement(not_finite(metrics, split, data.split("train"), probabilities=discrete))
    against = metrics, split, module.vae.gamma(), x, data.split("train")
    fault = implausible(*against)
    # The "ELBO" of a point mass is no bound.
    if fault is not None or not module.family.has_density:
        return Judgement(fault)
    return Judgement(None, worse_than_the_mean(*against))


def _pass_over(
    subject: _Subject, progress: Progress
) -> tuple[dict[str, float], Posterior, dict[str, Float[Tensor, " N"]]]:
    """The figures of all examples, their posteriors, and ELBO and squared error of each."""
    module, data, split = subject.module, subject.data, subject.split
    settings = module.settings
    columns: dict[str, list[Tensor]] = defaultdict(list)
    posteriors = []
    batches = data.rows(split).split(data.batch_size)
    for number, x in enumerate(batch.to(module.device) for batch in batches):
        generator = module.evaluation_noise(number)
        inference, bound, initial = module.evaluate_batch(x, generator, settings["samples"])
        q = subject.density(inference.value, x)
        part = portion(progress, number / len(batches), (number + 1) / len(batches))
        estimate = importance_log_likelihood(
            module.vae, q, x, settings["importance_samples"], generator, part
        )
        posteriors.append(q)
        figures = {
            f"{split}/elbo": bound.elbo,
            f"{split}/reconstruction": bound.reconstruction,
            f"{split}/kl": bound.kl,
            f"{split}/squared_error": bound.squared_error,
            f"{split}/nll": -estimate.log_likelihood,
            f"{split}/effective_samples": estimate.effective_samples,
        }
        if (solution := inference.solution) is not None:
            figures |= {
                "inner/steps": solution.steps.float(),
                "inner/stationarity": solution.stationarity,
                "inner/converged": (solution.status == Status.CONVERGED).float(),
                "inner/improvement": bound.elbo - initial.elbo,
            }
        for name, values in figures.items():
            columns[name].append(values)
    metrics = {name: _summary(name, torch.cat(parts)) for name, parts in columns.items()}
    nats = metrics[f"{split}/nll"] / data.dim + data.log_levels
    if data.sequences:
        # Squared differences of words mean nothing, and what a word costs is said in its own terms.
        del metrics[f"{split}/squared_error"]
        levels = data.split(split)
        words = float((levels >= 0).sum()) / len(levels)
        metrics[f"{split}/perplexity"] = math.exp(metrics[f"{split}/nll"] / words)
    elif module.vae.likelihood.support != "binary":
        # Those of ones and zeros are no bits of the pixels that they were drawn from.
        metrics[f"{split}/bits_per_dim"] = nats / math.log(2.0)
    # A density in the data's units is that of x over the product of the scales.
    metrics[f"{split}/elbo_data_units"] = metrics[f"{split}/elbo"] - data.units.log_scale
    metrics[f"{split}/nll_data_units"] = metrics[f"{split}/nll"] + data.units.log_scale
    metrics[f"{split}/examples"] = float(len(data.split(split)))
    metrics[f"{split}/examples_trained_on"] = float(data.count_trained(split))
    own = module.vae.likelihood.figures()
    metrics |= {f"{split}/{name}": float(value) for name, value in own.items()}
    each = {name: torch.cat(columns[f"{split}/{name}"]) for name in ("elbo", "squared_error")}
    return metrics, stack(posteriors), each


def _summary(name: str, values: Tensor) -> float:
    # A ratio of norms can be as large as it likes for a few examples, or not finite.
    centre = values.median() if name == "inner/stationarity" else values.double().mean()
    return float(centre)


def _prefixed(split: str, metrics: dict[str, float]) -> dict[str, float]:
    return {f"{split}/{name}": value for name, value in metrics.items()}


def _latents(subject: _Subject, q: Posterior) -> dict[str, float]:
    """How much of the latent code is used."""
    some = q[:MUTUAL_INFORMATION_EXAMPLES]
    generator = subject.module.evaluation_noise(LATENTS_STREAM)
    noise = torch.randn(1, *some.mean.shape, generator=generator, dtype=q.mean.dtype)
    figures = {
        "active_units": float(active_units(q.mean)),
        "mutual_information": mutual_information(some, noise.to(q.mean.device)),
    }
    return _prefixed(subject.split, figures)


def _gaps(subject: _Subject) -> dict[str, float]:
    """Where the bound loses nats, on the split and on training examples."""
    module, settings = subject.module, subject.module.settings
    # A point mass has no bound to measure gaps from.
    if settings["gap_examples"] == 0 or not module.family.has_density:
        return {}

    def measured(split: str, stream: int) -> Gaps:
        return measure_gaps(
            module.vae,
            module.inference,
            subject.examples(split, settings["gap_examples"]),
            steps=settings["gap_steps"],
            importance_samples=settings["importance_samples"],
            generator=module.evaluation_noise(stream),
        )

    gaps, train = measured(subject.split, GAPS_STREAM), measured("train", TRAIN_GAPS_STREAM)
    metrics = _prefixed(subject.split, gaps.metrics()) | _prefixed("train", train.metrics())
    return metrics | {f"{subject.split}/gap/generalization": generalization(train, gaps)}


def _annealed(subject: _Subject, progress: Progress) -> dict[str, float]:
    """The log-likelihood of a few examples as well as it can be had."""
    module, settings = subject.module, subject.module.settings
    if settings["ais_examples"] == 0:
        return {}
    generator = module.evaluation_noise(AIS_STREAM)

    def infer(x: Observations) -> Posterior:
        steps = module.inference.test_max_steps
        return subject.density(
            module.inference(module.vae, x, max_steps=steps, generator=generator).value, x
        )

    figures = log_likelihood_figures(
        module.vae,
        infer,
        subject.examples(most=settings["ais_examples"]),
        annealing=Annealing(settings["ais_chains"], settings["ais_steps"]),
        importance_samples=settings["importance_samples"],
        generator=generator,
        progress=progress,
    )
    return _prefixed(subject.split, figures)


def _collapse(
    subject: _Subject,
    q: Posterior,
    bound: dict[str, Float[Tensor, " N"]],
    trend: str,
    steps: int | None,
) -> Collapse | None:
    """Which latent dimensions are unused, and why; a point mass leaves none to the prior."""
    module, data, settings = subject.module, subject.data, subject.module.settings
    if not module.family.has_density:
        return None
    rows, train = subject.examples(), data.split("train")
    vae, x = module.vae.given(rows), rows[:, : data.dim]
    if not (isinstance(vae, GaussianVAE) and vae.prior.standard and q.closed_kl):
        return usage(q, vae)
    error, both = None, None
    if settings["autoencoder_steps"] > 0 and vae is module.vae:
        epochs = -(-settings["autoencoder_steps"] * data.batch_size // len(train))
        if steps is not None:
            both = steps, epochs * -(-len(train) // data.batch_size)
        with torch.enable_grad():
            error = autoencoder_error(module, data, subject.split, epochs=epochs)
    principal, gamma = PrincipalComponents.fit(train, module.family.latent_dim), vae.gamma
    least = gamma.floor if gamma.free else float(gamma().min())
    return measure_collapse(
        vae,
        q,
        x,
        squared_error=bound["squared_error"],
        linear_error=principal.error(x),
        autoencoder_error=error,
        beta=float(module.kl_weight),
        held_out=(bound["elbo"].cpu(), principal.log_likelihoods(x, least)),
        trend=trend,
        steps=both,
        advice=Advice(module.hparams["model"], data.levels is not None and not data.dequantise),
    )
