"""Where the bound loses nats: the family, the inference, and the new data (Cremer et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from savi.evaluation.importance import expected_bound, importance_log_likelihood
from savi.gradients import StopGradient
from savi.inner.minimize import minimize
from savi.inner.noise import common_noise
from savi.inner.objectives import NegativeELBO
from savi.inner.optimizers import LevenbergMarquardt
from savi.inner.solution import Solution
from savi.training.inference import SemiAmortizedInference
from savi.vae.families import LaplaceFamily, PosteriorFamily
from savi.vae.distributions import Posterior
from savi.vae.model import GaussianVAE

#: Noise samples of the problem that defines the best q: enough that its solution does not fit them.
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
        """log p(x) − L[q*]: what a richer family would gain."""
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
    samples: int,
    importance_samples: int,
    generator: torch.Generator,
) -> Gaps:
    """Bounds at the inferred and at the optimal λ, on the same noise, independent of the solve's.

    The optimal λ* is a Levenberg–Marquardt solution started at the inferred one (for the MAP
    families, a solution of the MAP problem). The log-likelihood takes the better of the two
    proposals, example by example.
    """
    family = inference.family
    inferred = inference(model, x, max_steps=inference.test_max_steps, generator=generator).value
    noise = common_noise(SOLVE_SAMPLES, inferred[:, : family.latent_dim], generator)
    solution = minimize(
        NegativeELBO(model, family, x, noise),
        inferred,
        optimizer=LevenbergMarquardt(),
        gradient=StopGradient(),
        max_steps=steps,
        rtol=1e-4,
    )
    seed = int(torch.randint(2**31, (), generator=generator))
    bounds, estimates = [], []
    for lam in (inferred, solution.value):
        q = with_density(family, model, lam)
        same_noise = torch.Generator().manual_seed(seed)
        bounds.append(expected_bound(model, q, x, samples, same_noise).elbo)
        estimates.append(importance_log_likelihood(model, q, x, importance_samples, generator)[0])
    return Gaps(bounds[0], bounds[1], torch.maximum(*estimates), solution)
