"""Likelihood regret: how much the bound of one example gains by inference of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from savi.errors import InputError
from savi.evaluation.bounds import importance_log_likelihood, sharp_bound
from savi.evaluation.evaluate import evaluation_mode
from savi.evaluation.optimum import LocalOptimum, local_optimum
from savi.evaluation.proposals import with_density
from savi.types import Mask, Observations, PerExample
from savi.vae.model import VAE

if TYPE_CHECKING:
    from savi.inference.semi_amortized import SemiAmortizedInference
    from savi.training.module import SemiAmortizedVAE

#: Solved together: the memory of a solve grows with the batch.
BATCH = 128
#: A stream of noise apart from those of the evaluation.
REGRET_STREAM = 910_001


@dataclass(frozen=True)
class Regret:
    """L before and after the refinement of λ, in nats, shape [B].

    Attributes:
        initial: L[q] at λ0, the encoder's guess.
        optimal: L[q*] at λ*, the local optimum.
        optimum: λ* and its certificate.
    """

    initial: PerExample
    optimal: PerExample
    optimum: LocalOptimum

    @property
    def value(self) -> PerExample:
        """L[q*] − L[q], the regret of each example."""
        return self.optimal - self.initial


@torch.no_grad()
def likelihood_regret(
    model: VAE,
    inference: SemiAmortizedInference,
    x: Observations,
    *,
    steps: int,
    samples: int,
    generator: torch.Generator,
) -> Regret:
    """LR(x) = max_λ L(θ, λ; x) − L(θ, λ0; x) with λ0 = g_φ(x), one score per example.

    Xiao, Yan and Amit (2020, arXiv 2003.02977) refit the parameters φ of the encoder to each
    example, by some hundred optimiser steps. Here it is λ itself that is refined, by a converged
    solve: the supremum over all encoders. The regret is then the amortisation gap of the example,
    and large where the encoder was never trained. Without an inference network λ0 is the prior's λ.
    Both bounds take ``samples`` of the same noise.
    """
    start, family, model = inference.start(x), inference.family, model.given(x)
    optimum = local_optimum(model, family, x, start, steps=steps, generator=generator)
    seed = int(torch.randint(2**31, (), generator=generator))
    initial, optimal = (
        sharp_bound(model, q, x, samples, torch.Generator().manual_seed(seed))
        for q in (with_density(family, model, lam) for lam in (start, optimum.value))
    )
    return Regret(initial, optimal, optimum)


def auroc(inlier: Float[Tensor, " N"], outlier: Float[Tensor, " M"]) -> float:
    """The probability that an outlier scores above an inlier (ties count half)."""
    # Imported here because it takes a second.
    from sklearn.metrics import roc_auc_score

    labels = torch.cat([torch.zeros(len(inlier)), torch.ones(len(outlier))])
    scores = torch.cat([inlier, outlier])
    return float(roc_auc_score(labels.numpy(), scores.double().cpu().numpy()))


@torch.no_grad()
def out_of_distribution(
    module: SemiAmortizedVAE,
    inlier_x: Float[Tensor, "N D"],
    outlier_x: Float[Tensor, "M D"],
    *,
    steps: int | None = None,
    samples: int | None = None,
    importance_samples: int | None = None,
) -> dict[str, float]:
    """How well three scores tell examples of another data set from held-out ones of the run's own.

    The outliers are in the model's units. The solves take ``steps`` at most, the bounds and the
    log-likelihood as many samples as given: by default ``gap_steps``, ``samples`` and
    ``importance_samples`` of the run's ``evaluation``.

    Returns:
        Areas under the ROC curve (1/2 is chance): ``ood/auroc_regret``; as baselines
        ``ood/auroc_elbo`` by −L at the encoder's guess and ``ood/auroc_nll`` by the
        importance-weighted −log p(x); the mean scores ``ood/regret_inlier`` and
        ``ood/regret_outlier`` in nats; and ``ood/failures``, the share of examples whose refinement
        is not certified.

    Raises:
        InputError: for data of different dimensions, or without examples.
    """
    _check(inlier_x, outlier_x)
    given = {"gap_steps": steps, "samples": samples, "importance_samples": importance_samples}
    settings = {**module.settings, **{name: n for name, n in given.items() if n is not None}}
    with evaluation_mode(module):
        inlier, outlier = (_scores(module, x, settings) for x in (inlier_x, outlier_x))
    failed = torch.cat([inlier.pop("failed"), outlier.pop("failed")])
    areas = {f"ood/auroc_{name}": auroc(inlier[name], outlier[name]) for name in inlier}
    return areas | {
        "ood/regret_inlier": float(inlier["regret"].mean()),
        "ood/regret_outlier": float(outlier["regret"].mean()),
        "ood/failures": float(failed.double().mean()),
    }


def _check(inlier_x: Float[Tensor, "N D"], outlier_x: Float[Tensor, "M E"]) -> None:
    if inlier_x.shape[1] != outlier_x.shape[1]:
        raise InputError(
            f"the out-of-distribution examples have {outlier_x.shape[1]} entries and those of the "
            f"run {inlier_x.shape[1]}: choose a data set of the same shape"
        )
    for name, x in (("run's own", inlier_x), ("out-of-distribution", outlier_x)):
        if len(x) == 0:
            raise InputError(f"there are no {name} examples: choose a split that holds some")


def _scores(
    module: SemiAmortizedVAE, x: Tensor, settings: Mapping[str, Any]
) -> dict[str, PerExample | Mask]:
    """Scores that are larger for stranger examples, and which refinements failed."""
    model, pieces = module.vae, []
    for number, part in enumerate(x.split(BATCH)):
        generator = module.evaluation_noise(REGRET_STREAM + number)
        batch = part.to(module.device)
        regret = likelihood_regret(
            model,
            module.inference,
            batch,
            steps=settings["gap_steps"],
            samples=settings["samples"],
            generator=generator,
        )
        best = with_density(module.family, model.given(batch), regret.optimum.value)
        samples = settings["importance_samples"]
        estimate = importance_log_likelihood(model, best, batch, samples, generator)
        nll, failed = -estimate.log_likelihood, regret.optimum.failed
        pieces.append((regret.value, -regret.initial, nll, failed))
    columns = map(torch.cat, zip(*pieces, strict=True))
    return dict(zip(("regret", "elbo", "nll", "failed"), columns, strict=True))
