"""Where the bound loses nats: the family, the inference, and the new data (Cremer et al. 2018)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from savi.evaluation.importance import importance_log_likelihood
from savi.gradients import StopGradient
from savi.inner.minimize import minimize
from savi.inner.noise import common_noise
from savi.inner.objectives import NegativeELBO
from savi.inner.optimizers import LevenbergMarquardt
from savi.inner.solution import Solution
from savi.vae.data_fit import data_fit
from savi.vae.distributions import Posterior
from savi.vae.families import LaplaceFamily, PosteriorFamily
from savi.vae.model import GaussianVAE

if TYPE_CHECKING:
    from savi.training.inference import SemiAmortizedInference

#: Least noise samples of the problem that defines the best q, so that it does not fit the noise.
SOLVE_SAMPLES = 32


@dataclass(frozen=True)
class Gaps:
    """Bounds of a few examples, in nats, shape [B].

    Attributes:
        inferred: L at the λ that the run's inference returns.
        optimal: L at λ*, a converged solution of max L within the family.
        log_likelihood: an importance-weighted estimate of log p(x).
        solution: the converged solve, with its status.
    """

    inferred: Float[Tensor, " B"]
    optimal: Float[Tensor, " B"]
    log_likelihood: Float[Tensor, " B"]
    solution: Solution

    @property
    def amortization(self) -> float:
        """L[q*] − L[q]: what better inference would gain."""
        return float((self.optimal - self.inferred).mean())

    @property
    def approximation(self) -> float:
        """Log p(x) − L[q*]: what a richer family would gain."""
        return float((self.log_likelihood - self.optimal).mean())


def with_density(
    family: PosteriorFamily, model: GaussianVAE, lam: Float[Tensor, "B P"]
) -> Posterior:
    """q_λ, or the Laplace approximation at λ where q_λ is a point: a proposal with a density."""
    if family.has_density:
        return family.distribution(lam, model)
    return LaplaceFamily(family.latent_dim).distribution(lam, model)


@torch.no_grad()
def measure_gaps(
    model: GaussianVAE,
    inference: SemiAmortizedInference,
    x: Float[Tensor, "B D"],
    *,
    steps: int,
    importance_samples: int,
    generator: torch.Generator,
) -> Gaps:
    """Bounds at the inferred and at the optimal λ, on noise independent of the solve's.

    The optimal λ* is a Levenberg–Marquardt solution started at the inferred one (for the MAP
    families, a solution of the MAP problem), on noise with exact second moments. Both bounds and
    the log-likelihood come from importance weights on the same noise, so that much of it cancels
    in the gaps. The proposal of the log-likelihood is q*: the larger of two estimates, one from
    each q, would be biased upwards.
    """
    family = inference.family
    inferred = inference(model, x, max_steps=inference.test_max_steps, generator=generator).value
    whole_group = 2 * family.latent_dim
    noise = common_noise(
        math.ceil(SOLVE_SAMPLES / whole_group) * whole_group,
        inferred[:, : family.latent_dim],
        generator,
    )
    fit = data_fit(model, x, inferred[:, : family.latent_dim], codes=len(x) * len(noise(0)) * steps)
    solution = minimize(
        NegativeELBO(model, family, fit, noise),
        inferred,
        optimizer=LevenbergMarquardt(),
        gradient=StopGradient(),
        max_steps=steps,
        rtol=1e-4,
        # The curvature at the best q is at least 1/2: this leaves an error below 1e-6 nats.
        atol=1e-3,
    )
    seed = int(torch.randint(2**31, (), generator=generator))
    at_inferred, at_optimal = (
        importance_log_likelihood(
            model,
            with_density(family, model, lam),
            x,
            importance_samples,
            torch.Generator().manual_seed(seed),
        )
        for lam in (inferred, solution.value)
    )
    return Gaps(at_inferred.bound, at_optimal.bound, at_optimal.log_likelihood, solution)
