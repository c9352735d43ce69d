"""Gaussian laws from which the posterior is reached: proposals, and where annealing starts."""

from __future__ import annotations

import torch

from savi._minimize import minimize
from savi.gradients import StopGradient
from savi.inference.negative_elbo import NegativeELBO
from savi.inner.optimizers import LevenbergMarquardt
from savi.types import Codes, Observations, Rows
from savi.vae.data_fit import data_fit
from savi.vae.distributions import DiagonalGaussian, FullGaussian, Posterior
from savi.vae.families import LaplaceFamily, PosteriorFamily
from savi.vae.model import VAE


def with_density(family: PosteriorFamily, model: VAE, lam: Rows) -> Posterior:
    """q_λ, or the Laplace approximation at λ where q_λ is a point: a proposal with a density."""
    if family.has_density:
        return family.distribution(lam, model)
    return LaplaceFamily(family.latent_dim).distribution(lam, model)


def standard_normal(model: VAE, x: Observations) -> DiagonalGaussian:
    """N(0, I) for every example."""
    zeros = x.new_zeros(len(x), model.latent_dim)
    return DiagonalGaussian(zeros, zeros)


@torch.no_grad()
def laplace_at_mode(
    model: VAE, x: Observations, start: Codes, max_steps: int = 100
) -> FullGaussian:
    """N(m, (I + JᵀJ/γ)⁻¹) at a mode m of p(z|x), climbed to from ``start``.

    I is the precision of the prior N(0, I); that of another one takes its place.

    An initial law for annealed importance sampling, whatever the posterior family that was
    trained: annealing has then to mend no more than what is not Gaussian in the posterior, and no
    γ is too small for it. It is narrow, so that chains rarely find other modes far away; the
    estimates stay bounds, and a gap of bidirectional Monte Carlo would show it. A good ``start`` is
    the mean of a trained posterior.
    """
    family, model = LaplaceFamily(model.latent_dim), model.given(x)
    fit = data_fit(model, x, start, codes=len(x) * max_steps)
    # A point needs no noise.
    problem = NegativeELBO(model, family, fit, lambda step: torch.zeros_like(start).unsqueeze(0))
    solution = minimize(
        problem,
        start,
        optimizer=LevenbergMarquardt(),
        gradient=StopGradient(),
        max_steps=max_steps,
        rtol=0.0,
        # The curvature is at least 1: this leaves m within 0.01 of a standard deviation.
        atol=1e-2,
    )
    return family.distribution(solution.value, model)
