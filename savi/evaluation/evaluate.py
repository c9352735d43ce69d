"""All the final figures of a trained model on a split."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from savi.evaluation.annealing import Annealing
from savi.evaluation.autoencoder import autoencoder_error, linear_error
from savi.evaluation.bounds import importance_log_likelihood
from savi.evaluation.collapse import Collapse, active_units, measure_collapse, mutual_information
from savi.evaluation.gaps import generalization, measure_gaps
from savi.evaluation.log_likelihood import log_likelihood_figures
from savi.evaluation.pieces import Progress, portion, silent
from savi.evaluation.proposals import with_density
from savi.inner.solution import Status
from savi.types import Observations
from savi.vae.distributions import Posterior, stack

if TYPE_CHECKING:
    from savi.data import TensorDataModule
    from savi.training.module import SemiAmortizedVAE

#: Examples that the N × N estimate of the mutual information uses at most.
MUTUAL_INFORMATION_EXAMPLES = 1_000

#: Streams of noise apart from those of the batches, which are numbered from 0.
LATENTS_STREAM, GAPS_STREAM, TRAIN_GAPS_STREAM, AIS_STREAM = 900_001, 900_002, 900_003, 900_004

#: What runs of versions without these settings are evaluated with.
LATER_SETTINGS = {"ais_examples": 0, "ais_chains": 16, "ais_steps": 500, "autoencoder_steps": 0}


@dataclass(frozen=True)
class Evaluation:
    """What a model is worth.

    Attributes:
        metrics: the figures, under the names ``test/...`` and ``inner/...``.
        collapse: whether, how and why latent dimensions are unused; None where q has no density.
    """

    metrics: dict[str, float]
    collapse: Collapse | None


@torch.no_grad()
def evaluate(
    module: SemiAmortizedVAE,
    data: TensorDataModule,
    split: str = "test",
    progress: Progress = silent,
) -> Evaluation:
    """The figures of ``split``.

    Deterministic: all noise comes from generators seeded by the module's ``seed``, so that a
    reloaded checkpoint gives the same numbers.

    Args:
        module: the trained model; evaluated where its parameters are.
        data: a data module that has been set up.
        split: ``test`` or ``val``.
        progress: told the fraction that is done.
    """
    was_training = module.training
    module.eval()
    try:
        settings = LATER_SETTINGS | dict(module.settings)
        metrics, q, squared_error = _pass_over(module, data, split, portion(progress, 0.0, 0.5))
        metrics |= _gaps(module, data, split, settings)
        progress(0.6)
        metrics |= _annealed(module, data, split, settings, portion(progress, 0.6, 0.9))
        collapse = _collapse(module, data, split, settings, q, squared_error)
        progress(1.0)
    finally:
        module.train(was_training)
    if collapse is not None:
        metrics |= _prefixed(split, collapse.metrics())
    return Evaluation(metrics, collapse)


def _pass_over(
    module: SemiAmortizedVAE, data: TensorDataModule, split: str, progress: Progress
) -> tuple[dict[str, float], Posterior, Float[Tensor, " N"]]:
    """The figures of all examples, their posteriors, and E_q‖x − μ(z)‖² of each."""
    settings, family, model = module.settings, module.family, module.vae
    columns: dict[str, list[Tensor]] = defaultdict(list)
    posteriors = []
    batches = data.split(split).split(data.batch_size)
    for number, x in enumerate(batch.to(module.device) for batch in batches):
        generator = module.evaluation_noise(number)
        inference, bound, initial = module.evaluate_batch(x, generator, settings["samples"])
        q = with_density(family, model, inference.value)
        estimate = importance_log_likelihood(
            model,
            q,
            x,
            settings["importance_samples"],
            generator,
            portion(progress, number / len(batches), (number + 1) / len(batches)),
        )
        posteriors.append(q)
        columns[f"{split}/elbo"].append(bound.elbo)
        columns[f"{split}/reconstruction"].append(bound.reconstruction)
        columns[f"{split}/kl"].append(bound.kl)
        columns[f"{split}/squared_error"].append(bound.squared_error)
        columns[f"{split}/nll"].append(-estimate.log_likelihood)
        columns[f"{split}/effective_samples"].append(estimate.effective_samples)
        if (solution := inference.solution) is not None:
            columns["inner/steps"].append(solution.steps.float())
            columns["inner/stationarity"].append(solution.stationarity)
            columns["inner/converged"].append((solution.status == Status.CONVERGED).float())
            columns["inner/improvement"].append(bound.elbo - initial.elbo)
    q = stack(posteriors)
    metrics = {name: _summary(name, torch.cat(parts)) for name, parts in columns.items()}
    metrics[f"{split}/bits_per_dim"] = (
        metrics[f"{split}/nll"] / data.dim + data.log_levels
    ) / math.log(2.0)
    metrics[f"{split}/gamma"] = float(model.gamma().mean())
    metrics |= _latents(module, q, split)
    return metrics, q, torch.cat(columns[f"{split}/squared_error"])


def _summary(name: str, values: Tensor) -> float:
    # A ratio of norms can be as large as it likes for a few examples, or not finite.
    centre = values.median() if name == "inner/stationarity" else values.double().mean()
    return float(centre)


def _prefixed(split: str, metrics: dict[str, float]) -> dict[str, float]:
    return {f"{split}/{name}": value for name, value in metrics.items()}


def _latents(module: SemiAmortizedVAE, q: Posterior, split: str) -> dict[str, float]:
    some = q[:MUTUAL_INFORMATION_EXAMPLES]
    generator = module.evaluation_noise(LATENTS_STREAM)
    noise = torch.randn(1, *some.mean.shape, generator=generator, dtype=q.mean.dtype)
    return {
        f"{split}/active_units": float(active_units(q.mean)),
        f"{split}/mutual_information": mutual_information(some, noise.to(q.mean.device)),
    }


def _gaps(
    module: SemiAmortizedVAE, data: TensorDataModule, split: str, settings: dict[str, Any]
) -> dict[str, float]:
    """Where the bound loses nats, on the split and on training examples."""
    # A point mass has no bound to measure gaps from.
    if settings["gap_examples"] == 0 or not module.family.has_density:
        return {}
    measured = {}
    for stream, part in ((GAPS_STREAM, split), (TRAIN_GAPS_STREAM, "train")):
        x = data.split(part)[: settings["gap_examples"]].to(module.device)
        measured[part] = measure_gaps(
            module.vae,
            module.inference,
            x,
            steps=settings["gap_steps"],
            importance_samples=settings["importance_samples"],
            generator=module.evaluation_noise(stream),
        )
    metrics: dict[str, float] = {}
    for part, gaps in measured.items():
        metrics |= _prefixed(part, gaps.metrics())
    metrics[f"{split}/gap/generalization"] = generalization(measured["train"], measured[split])
    return metrics


def _annealed(
    module: SemiAmortizedVAE,
    data: TensorDataModule,
    split: str,
    settings: dict[str, Any],
    progress: Progress,
) -> dict[str, float]:
    """The log-likelihood of a few examples as well as it can be had."""
    if settings["ais_examples"] == 0:
        return {}
    generator = module.evaluation_noise(AIS_STREAM)

    def infer(x: Observations) -> Posterior:
        steps = module.inference.test_max_steps
        inference = module.inference(module.vae, x, max_steps=steps, generator=generator)
        return with_density(module.family, module.vae, inference.value)

    figures = log_likelihood_figures(
        module.vae,
        infer,
        data.split(split)[: settings["ais_examples"]].to(module.device),
        annealing=Annealing(settings["ais_chains"], settings["ais_steps"]),
        importance_samples=settings["importance_samples"],
        generator=generator,
        progress=progress,
    )
    return _prefixed(split, figures)


def _collapse(
    module: SemiAmortizedVAE,
    data: TensorDataModule,
    split: str,
    settings: dict[str, Any],
    q: Posterior,
    squared_error: Float[Tensor, " N"],
) -> Collapse | None:
    """Which latent dimensions are unused, and why; a point mass leaves none to the prior."""
    if not module.family.has_density:
        return None
    x, train = data.split(split).to(module.device), data.split("train")
    error = None
    if settings["autoencoder_steps"] > 0:
        epochs = -(-settings["autoencoder_steps"] * data.batch_size // len(train))
        with torch.enable_grad():
            error = autoencoder_error(module, data, split, epochs=epochs)
    return measure_collapse(
        module.vae,
        q,
        x,
        squared_error=squared_error,
        linear_error=linear_error(train, x, module.family.latent_dim),
        autoencoder_error=error,
        beta=float(module.kl_weight),
    )
