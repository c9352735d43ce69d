"""A linear model of binary data with two latents, against quadrature over the codes."""

import math

import pytest
import torch
from linear_gaussian import randn
from torch import Tensor, nn

from savi.evaluation.ais import annealed_log_likelihood, simulate
from savi.evaluation.annealing import Annealing
from savi.evaluation.bounds import importance_log_likelihood, sharp_bound
from savi.evaluation.optimum import local_optimum
from savi.evaluation.proposals import laplace_at_mode
from savi.vae import POSTERIORS, VAE, BernoulliLikelihood, DiagonalGaussian

D, N = 9, 6
#: Codes of a grid, and the log of the prior's mass at each: the trapezoidal rule, whose error for
#: such smooth functions is far below that of double precision's sums.
EDGE = torch.linspace(-8.0, 8.0, 161, dtype=torch.float64)
GRID = torch.cartesian_prod(EDGE, EDGE)
LOG_MASS = -0.5 * GRID.square().sum(-1) - math.log(2.0 * math.pi) + 2.0 * math.log(0.1)


@pytest.fixture(scope="module")
def problem() -> tuple[VAE, Tensor]:
    torch.manual_seed(0)
    head = nn.Linear(2, D)
    nn.init.normal_(head.weight, std=1.2)
    model = VAE(nn.Sequential(head), BernoulliLikelihood(D), 2).double()
    with torch.no_grad():
        _, x = simulate(model, N, torch.Generator().manual_seed(1))
    return model, x


@pytest.fixture(scope="module")
def exact(problem) -> tuple[Tensor, Tensor, Tensor]:
    """The evidence, posterior means and covariances of the examples."""
    model, x = problem
    with torch.no_grad():
        logits = model.decoder(GRID)
        log_joint = x @ logits.T - nn.functional.softplus(logits).sum(-1) + LOG_MASS
    evidence = log_joint.logsumexp(dim=1)
    weights = (log_joint - evidence[:, None]).exp()
    mean = weights @ GRID
    delta = GRID - mean[:, None]
    return evidence, mean, torch.einsum("ng,ngi,ngj->nij", weights, delta, delta)


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_evidence_of_all_data_is_one():
    """Over all 2^D of them, for a smaller D: the quadrature is right."""
    head = nn.Linear(2, 4).double()
    nn.init.normal_(head.weight, std=1.2)
    x = torch.cartesian_prod(*[torch.tensor([0.0, 1.0]).double()] * 4)
    with torch.no_grad():
        logits = head(GRID)
        log_joint = x @ logits.T - nn.functional.softplus(logits).sum(-1) + LOG_MASS
    assert float(log_joint.logsumexp((0, 1))) == pytest.approx(0.0, abs=1e-9)


def test_the_annealed_and_the_weighted_bound_are_within_their_errors(problem, exact):
    model, x = problem
    evidence = exact[0]
    q = laplace_at_mode(model, x, x.new_zeros(N, 2))
    annealed = annealed_log_likelihood(model, x, Annealing(16, 30), source(), q)
    error = annealed.log_likelihood - evidence
    assert (error / annealed.standard_error).abs().max() < 4.5
    assert float(error.mean()) == pytest.approx(0.0, abs=0.05)
    weighted = importance_log_likelihood(model, q, x, 2_000, source(1))
    relative = (1.0 / weighted.effective_samples - 1.0 / 2_000).clamp_min(0.0).sqrt()
    assert ((weighted.log_likelihood - evidence).abs() < 4.5 * relative + 1e-9).all()
    assert (weighted.bound < evidence).all()
    both = (relative.square() + annealed.standard_error.square()).sqrt()
    assert ((annealed.log_likelihood - weighted.log_likelihood).abs() < 4.5 * both).all()


def test_a_laplace_posterior_is_at_the_mode_with_the_curvature_there(problem):
    model, x = problem
    q = laplace_at_mode(model, x, x.new_zeros(N, 2))
    mode = q.mean.clone().requires_grad_()
    (slope,) = torch.autograd.grad(model.log_joint(x, mode.unsqueeze(0)).sum(), mode)
    covariance = q.scale_tril @ q.scale_tril.mT
    # Newton's decrement: what is left to gain, in nats.
    assert torch.einsum("ni,nij,nj->n", slope, covariance, slope).max() < 1e-4
    weight = model.decoder[0].weight.detach()
    p = model.mean(q.mean).detach()
    precision = torch.eye(2).double() + weight.T @ ((p * (1 - p)).unsqueeze(-1) * weight)
    torch.testing.assert_close(covariance, torch.linalg.inv(precision))


def test_the_best_full_gaussian_is_near_the_posterior_and_below_the_evidence(problem, exact):
    model, x = problem
    evidence, mean, covariance = exact
    family = POSTERIORS["full_gaussian"](2)
    start = 0.1 * randn(N, family.num_params)
    found = local_optimum(model, family, x, start, steps=30, generator=source(2))
    q = family.distribution(found.value, model)
    assert not found.failed.any()
    bound = sharp_bound(model, q, x, 512, source(3))
    assert (bound < evidence + 0.02).all()
    assert ((evidence - bound) < 0.25).all()
    deviations = covariance.diagonal(dim1=-2, dim2=-1).sqrt()
    assert ((q.mean - mean).abs() / deviations).max() < 0.35
    worse = DiagonalGaussian(torch.zeros_like(mean), torch.zeros_like(mean))
    assert sharp_bound(model, worse, x, 512, source(3)).mean() < bound.mean()
