"""Log p(x) of a few examples as well as it can be had, with a check of how well that is."""

from __future__ import annotations

import torch
from torch import Tensor

from savi.evaluation.ais import Initial, annealed_log_likelihood, bidirectional_monte_carlo
from savi.evaluation.annealing import Annealing
from savi.evaluation.bounds import importance_log_likelihood
from savi.evaluation.pieces import Progress, portion, silent
from savi.evaluation.proposals import laplace_at_mode
from savi.types import Observations
from savi.vae.distributions import FullGaussian
from savi.vae.model import VAE


@torch.no_grad()
def log_likelihood_figures(
    model: VAE,
    infer: Initial,
    x: Observations,
    *,
    annealing: Annealing,
    importance_samples: int,
    generator: torch.Generator,
    progress: Progress = silent,
) -> dict[str, float]:
    """The log-likelihood by two estimators, the better of the two, and its trustworthiness.

    After Cremer et al. (2018, arXiv 1801.03558): importance sampling from q and annealed
    importance sampling are lower bounds on log p(x) in expectation, so the estimator with the
    larger *mean over the examples* is the better one. The larger of the two for every single
    example would be no bound: a maximum of noisy values is biased upwards. (So is a maximum of two
    means, but only by their own Monte Carlo error.)

    Annealing starts at the Laplace approximation at a mode near the mean of q, for any family. The
    simulated examples are inferred by ``infer`` too, x ↦ q(z|x).

    Returns:
        Means over the examples: ``ais/nll`` and ``ais/nll_importance`` in nats, and
        ``ais/log_likelihood``, the better of the two; ``ais/standard_error`` of ``ais/nll``, from
        the spread over the chains; their ``ais/effective_samples`` and ``ais/acceptance``; and
        ``ais/bdmc_gap``, between an upper bound and a lower one, on as many examples simulated
        from the model.

    Raises:
        InputError: for less than one importance sample, or for a q without a density.
    """

    def initial(x: Tensor) -> FullGaussian:
        return laplace_at_mode(model, x, infer(x).mean)

    weighted = importance_log_likelihood(
        model, infer(x), x, importance_samples, generator, portion(progress, 0.0, 0.1)
    )
    annealed = annealed_log_likelihood(
        model, x, annealing, generator, initial(x), portion(progress, 0.1, 0.4)
    )
    sandwich = bidirectional_monte_carlo(
        model, len(x), annealing, generator, initial, portion(progress, 0.4, 1.0), like=x
    )
    by_annealing = float(annealed.log_likelihood.mean())
    by_importance = float(weighted.log_likelihood.double().mean())
    return {
        "ais/nll": -by_annealing,
        "ais/nll_importance": -by_importance,
        "ais/log_likelihood": max(by_annealing, by_importance),
        "ais/standard_error": float(annealed.standard_error.square().sum().sqrt()) / len(x),
        "ais/effective_samples": float(annealed.effective_samples.mean()),
        "ais/acceptance": float(annealed.acceptance.mean()),
        "ais/bdmc_gap": float(sandwich.gap.mean()),
    }
