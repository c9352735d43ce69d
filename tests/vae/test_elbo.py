"""The evidence lower bound."""

import pytest
import torch
from closed_forms import amortization_gap, approximation_gap, diagonal_elbo, log_likelihood
from linear_gaussian import LinearGaussian, exact_noise, linear_gaussian, randn

from savi.vae import POSTERIORS, Bound, PointMass, elbo

EXACT = {"rtol": 0.0, "atol": 1e-10}


@pytest.fixture(params=["fixed", "learned", "per_pixel"])
def problem(request: pytest.FixtureRequest) -> LinearGaussian:
    problem = linear_gaussian(mode=request.param)
    problem.model.requires_grad_(False)
    return problem


def bound_of(problem: LinearGaussian, name: str, lam: torch.Tensor) -> Bound:
    q = POSTERIORS[name](3).distribution(lam, problem.model)
    return elbo(problem.model, q, problem.x, exact_noise(len(problem.x), 3))


def exact(problem: LinearGaussian) -> torch.Tensor:
    return log_likelihood(problem.x, *problem.theta)


def test_the_best_diagonal_posterior_loses_the_approximation_gap(problem: LinearGaussian):
    w, _, gamma = problem.theta
    gap = approximation_gap(w, gamma)
    assert gap > 0.1
    actual = bound_of(problem, "diagonal_gaussian", problem.best_diagonal())
    torch.testing.assert_close(actual.elbo, exact(problem) - gap, **EXACT)


def test_any_other_diagonal_posterior_loses_the_amortisation_gap_too(problem: LinearGaussian):
    w, b, gamma = problem.theta
    mean, log_variance = randn(5, 3), randn(5, 3)
    bound = bound_of(problem, "diagonal_gaussian", torch.cat([mean, log_variance], dim=1))
    arguments = (mean, log_variance.exp(), problem.x, w, b, gamma)
    torch.testing.assert_close(bound.elbo, diagonal_elbo(*arguments), **EXACT)
    gap = exact(problem) - bound.elbo - approximation_gap(w, gamma)
    torch.testing.assert_close(gap, amortization_gap(*arguments), **EXACT)


def test_the_exact_posterior_loses_nothing(problem: LinearGaussian):
    for name, lam in (
        ("full_gaussian", problem.best_full()),
        ("laplace", problem.posterior_mean),
    ):
        torch.testing.assert_close(bound_of(problem, name, lam).elbo, exact(problem), **EXACT)


def test_the_terms_of_the_bound(problem: LinearGaussian):
    lam = randn(5, 6)
    bound = bound_of(problem, "diagonal_gaussian", lam)
    q = POSTERIORS["diagonal_gaussian"](3).distribution(lam, problem.model)
    w, b, _ = problem.theta
    squares = (problem.x - q.rsample(exact_noise(5, 3)) @ w.mT - b).square().sum(dim=-1)
    torch.testing.assert_close(bound.squared_error, squares.mean(dim=0))
    torch.testing.assert_close(bound.kl, bound.kl_per_dimension.sum(dim=-1))
    torch.testing.assert_close(bound.elbo, bound.reconstruction - bound.kl)


def test_the_bound_of_a_point_mass_is_the_log_joint(problem: LinearGaussian):
    z = randn(5, 3)
    bound = elbo(problem.model, PointMass(z), problem.x, exact_noise(5, 3))
    torch.testing.assert_close(bound.elbo, problem.model.log_joint(problem.x, z[None])[0])


def test_the_training_objective_weighs_the_divergence():
    bound = Bound(randn(4), randn(4, 3).square(), randn(4))
    kl = bound.kl_per_dimension.mean(dim=0)
    reconstruction = bound.reconstruction.mean()
    torch.testing.assert_close(bound.objective(), bound.elbo.mean())
    torch.testing.assert_close(bound.objective(beta=0.3), reconstruction - 0.3 * kl.sum())
    free = float(kl.sort().values[1]) + 1e-3
    paid = torch.where(kl > free, kl, torch.full_like(kl, free))
    actual = bound.objective(beta=0.3, free_bits=free)
    torch.testing.assert_close(actual, reconstruction - 0.3 * paid.sum())


def test_an_optimal_variance_is_the_batch_s_own_in_training_only():
    problem = linear_gaussian(mode="optimal")
    lam = problem.best_diagonal()
    training = bound_of(problem, "diagonal_gaussian", lam)
    problem.model.eval()
    evaluation = bound_of(problem, "diagonal_gaussian", lam)
    best = training.squared_error.mean() / 6
    shift = 0.5 * 6 * (torch.log(best) + 1 + torch.log(torch.tensor(2 * torch.pi)))
    torch.testing.assert_close(training.reconstruction.mean(), -shift)
    assert training.elbo.mean() > evaluation.elbo.mean() + 1e-6
