"""The observation variance."""

import math

import pytest
import torch
from linear_gaussian import exact_noise, linear_gaussian, randn
from torch.distributions import Normal

from savi.errors import InputError
from savi.vae import VARIANCES, DiagonalGaussian, GaussianLikelihood, elbo

FREE = ["learned", "optimal", "per_pixel"]


@pytest.mark.parametrize("mode", sorted(VARIANCES))
def test_every_mode_starts_at_its_value(mode: str):
    gamma = VARIANCES[mode](4, 0.3)()
    assert gamma.shape == ((4,) if mode == "per_pixel" else (1,))
    torch.testing.assert_close(gamma, torch.full_like(gamma, 0.3))


@pytest.mark.parametrize("mode", sorted(VARIANCES))
@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_a_value_that_is_no_variance_is_refused(mode: str, value: float):
    with pytest.raises(InputError, match=r"^value is "):
        VARIANCES[mode](4, value)


@pytest.mark.parametrize("mode", FREE)
def test_a_free_variance_must_start_above_its_floor(mode: str):
    with pytest.raises(InputError, match=r"^value is 0\.1, not above the floor 0\.1"):
        VARIANCES[mode](4, 0.1, floor=0.1)
    with pytest.raises(InputError, match=r"^floor is 0"):
        VARIANCES[mode](4, 0.1, floor=0.0)


def test_a_fixed_variance_has_nothing_to_learn_and_no_floor():
    gamma = VARIANCES["fixed"](4, 1e-8)
    assert not list(gamma.parameters())
    assert float(gamma()) == pytest.approx(1e-8)
    assert "gamma" in gamma.state_dict()


@pytest.mark.parametrize("mode", ["learned", "per_pixel"])
def test_a_learned_variance_cannot_fall_below_its_floor(mode: str):
    gamma = VARIANCES[mode](4, 0.3, floor=0.01)
    with torch.no_grad():
        gamma.log_excess.fill_(-200.0)
    assert (gamma() == 0.01).all()


def test_the_gradient_of_a_learned_variance_is_that_of_the_likelihood():
    likelihood = GaussianLikelihood(VARIANCES["learned"](4, 0.3)).double()
    x, mean = randn(5, 4), randn(2, 5, 4)
    value, squared_error = likelihood(x, mean)
    value.sum().backward()
    gamma = likelihood.gamma().detach()
    by_gamma = 0.5 * squared_error.sum() / gamma**2 - 0.5 * 2 * 5 * 4 / gamma
    by_log_excess = by_gamma * (gamma - likelihood.gamma.floor)
    torch.testing.assert_close(likelihood.gamma.log_excess.grad, by_log_excess)


@pytest.mark.parametrize("mode", sorted(VARIANCES))
def test_the_likelihood_is_a_normal_density(mode: str):
    likelihood = GaussianLikelihood(VARIANCES[mode](4, 0.3)).double()
    for parameter in likelihood.parameters():
        torch.nn.init.normal_(parameter)
    x, mean = randn(5, 4), randn(2, 5, 4)
    value, squared_error = likelihood(x, mean)
    expected = Normal(mean, likelihood.gamma().sqrt()).log_prob(x).sum(dim=-1)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(squared_error, (x - mean).square().sum(dim=-1))
    assert not squared_error.requires_grad


def test_the_optimal_variance_of_a_batch_maximises_the_bound():
    problem = linear_gaussian(mode="optimal")
    q = DiagonalGaussian(*problem.best_diagonal().chunk(2, dim=-1))
    bound = elbo(problem.model, q, problem.x, exact_noise(5, 3))
    best = bound.squared_error.mean() / 6
    for factor in (1.01, 0.99):
        other = linear_gaussian(mode="fixed", gamma=float(best) * factor).model
        other.decoder.load_state_dict(problem.model.decoder.state_dict())
        worse = elbo(other, q, problem.x, exact_noise(5, 3))
        assert worse.elbo.mean() < bound.elbo.mean()


def test_by_the_envelope_theorem_the_optimal_variance_is_a_constant_of_the_gradient():
    problem = linear_gaussian(mode="optimal")
    weight, lam = problem.model.decoder.head.weight, problem.best_diagonal()
    noise, q = exact_noise(5, 3), DiagonalGaussian(*lam.chunk(2, dim=-1))
    bound = elbo(problem.model, q, problem.x, noise)
    (constant,) = torch.autograd.grad(bound.elbo.mean(), weight, retain_graph=True)

    squares = (problem.x - problem.model.decode(q.rsample(noise))).square()
    gamma = squares.mean()
    expected = Normal(0.0, gamma.sqrt()).log_prob(squares.sqrt()).sum(dim=-1).mean()
    (through_gamma,) = torch.autograd.grad(expected, weight)
    torch.testing.assert_close(constant, through_gamma)


def test_the_optimal_variance_has_a_floor_and_keeps_a_running_mean():
    gamma = VARIANCES["optimal"](4, 0.3, floor=0.01).double()
    squared_error = torch.tensor([4.0, 8.0], dtype=torch.float64)
    assert float(gamma.of_batch(squared_error)) == pytest.approx(1.5)
    assert float(gamma.of_batch(0.0 * squared_error)) == 0.01
    gamma.observe(squared_error)
    expected = (1 - gamma.momentum) * 0.3 + gamma.momentum * 1.5
    assert float(gamma()) == pytest.approx(expected)
    assert float(gamma.state_dict()["gamma"]) == pytest.approx(expected)
    gamma.eval()
    assert float(gamma.of_batch(squared_error)) == pytest.approx(expected)


def test_observing_a_batch_leaves_its_graph_usable():
    problem = linear_gaussian(mode="optimal")
    inner, _ = problem.model.likelihood(problem.x, problem.model.decode(problem.posterior_mean))
    problem.model.gamma.observe(inner.detach().square())
    inner.sum().backward()
    assert problem.model.decoder.head.weight.grad is not None


@pytest.mark.parametrize("mode", ["fixed", "learned", "per_pixel"])
def test_only_the_optimal_variance_depends_on_the_batch(mode: str):
    gamma = VARIANCES[mode](4, 0.3)
    before = gamma().clone()
    gamma.observe(torch.full((2,), 100.0))
    assert torch.equal(gamma.of_batch(torch.full((2,), 100.0)), before)
