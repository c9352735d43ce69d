"""All the final figures of a trained model, from one pass over a split."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from savi.evaluation.gaps import measure_gaps, with_density
from savi.evaluation.importance import importance_log_likelihood
from savi.evaluation.latents import active_units, mutual_information
from savi.inner.status import Status
from savi.vae.distributions import Posterior, stack

if TYPE_CHECKING:
    from savi.data import TensorDataModule
    from savi.training.module import SemiAmortizedVAE

#: Examples that the N × N estimate of the mutual information uses at most.
MUTUAL_INFORMATION_EXAMPLES = 1_000

#: Streams of noise apart from those of the batches, which are numbered from 0.
LATENTS_STREAM, GAPS_STREAM, TRAIN_GAPS_STREAM = 900_001, 900_002, 900_003


@torch.no_grad()
def evaluate(
    module: SemiAmortizedVAE, data: TensorDataModule, split: str = "test"
) -> dict[str, float]:
    """The figures of ``split`` under the names ``test/...`` and ``inner/...``.

    Deterministic: all noise comes from generators seeded by the module's ``seed``, so that a
    reloaded checkpoint gives the same numbers.

    Args:
        module: the trained model; evaluated where its parameters are.
        data: a data module that has been set up.
        split: ``test`` or ``val``.
    """
    was_training = module.training
    module.eval()
    try:
        metrics = _pass_over(module, data, split)
        metrics |= _gaps(module, data, split)
    finally:
        module.train(was_training)
    return metrics


def _batches(module: SemiAmortizedVAE, data: TensorDataModule, split: str) -> Iterable[Tensor]:
    size = data.batch_size
    for x in data.split(split).split(size):
        yield x.to(module.device)


def _pass_over(module: SemiAmortizedVAE, data: TensorDataModule, split: str) -> dict[str, float]:
    settings, family, model = module.settings, module.family, module.vae
    columns: dict[str, list[Tensor]] = defaultdict(list)
    posteriors = []
    for number, x in enumerate(_batches(module, data, split)):
        generator = module.evaluation_noise(number)
        inference, bound, initial = module.evaluate_batch(x, generator, settings["samples"])
        q = with_density(family, model, inference.value)
        estimate = importance_log_likelihood(model, q, x, settings["importance_samples"], generator)
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
    metrics = {name: _summary(name, torch.cat(parts)) for name, parts in columns.items()}
    metrics[f"{split}/bits_per_dim"] = (
        metrics[f"{split}/nll"] / data.dim + data.log_levels
    ) / math.log(2.0)
    metrics[f"{split}/gamma"] = float(model.gamma().mean())
    metrics |= _latents(module, stack(posteriors), split)
    return metrics


def _summary(name: str, values: Tensor) -> float:
    # A ratio of norms can be as large as it likes for a few examples, or not finite.
    centre = values.median() if name == "inner/stationarity" else values.double().mean()
    return float(centre)


def _latents(module: SemiAmortizedVAE, q: Posterior, split: str) -> dict[str, float]:
    some = q[:MUTUAL_INFORMATION_EXAMPLES]
    generator = module.evaluation_noise(LATENTS_STREAM)
    noise = torch.randn(1, *some.mean.shape, generator=generator, dtype=q.mean.dtype)
    return {
        f"{split}/active_units": float(active_units(q.mean)),
        f"{split}/mutual_information": mutual_information(some, noise.to(q.mean.device)),
    }


def _gaps(module: SemiAmortizedVAE, data: TensorDataModule, split: str) -> dict[str, float]:
    settings = module.settings
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
    gaps = measured[split]
    generalization = measured["train"].optimal.mean() - gaps.optimal.mean()
    return {
        f"{split}/gap/amortization": gaps.amortization,
        f"{split}/gap/approximation": gaps.approximation,
        f"{split}/gap/generalization": float(generalization),
    }
