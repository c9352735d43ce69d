"""Bounds from both sides, on data simulated from the model."""

import math

import pytest
import torch
from closed_forms import log_likelihood
from linear_gaussian import linear_gaussian, vae

from savi.errors import InputError
from savi.evaluation.ais import Sandwich, bidirectional_monte_carlo, simulate
from savi.evaluation.annealing import AnnealedEstimate, Annealing
from savi.evaluation.proposals import laplace_at_mode
from savi.vae import DiagonalGaussian, Posterior, monte_carlo


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_exact_likelihood_lies_in_the_sandwich():
    n = 200
    problem = linear_gaussian(gamma=0.05)
    gaps = []
    for steps in (10, 100):
        settings = Annealing(chains=4, steps=steps)
        sandwich = bidirectional_monte_carlo(problem.model, n, settings, seeded())
        exact = log_likelihood(sandwich.x, *problem.theta).detach()
        below, above = exact - sandwich.lower, sandwich.upper - exact
        for slack in (below, above):
            error = float(slack.std()) / n**0.5
            assert float(slack.mean()) > -3.0 * error
        gaps.append(float(sandwich.gap.mean()))
    # Few temperatures leave a wide sandwich, so that a side on the wrong hand would show.
    assert gaps[0] > 0.5
    assert 0.0 < gaps[1] < 0.5 * gaps[0]


def test_few_chains_and_temperatures_keep_both_bounds_strictly():
    problem = linear_gaussian(gamma=0.05)
    sandwich = bidirectional_monte_carlo(problem.model, 200, Annealing(2, 10), seeded())
    exact = log_likelihood(sandwich.x, *problem.theta).detach()
    for slack in (exact - sandwich.lower, sandwich.upper - exact):
        assert float(slack.mean()) > 3.0 * float(slack.std()) / 200**0.5


def test_from_the_exact_posterior_the_sandwich_is_closed():
    problem = linear_gaussian(gamma=1e-3)

    def initial(x: torch.Tensor) -> Posterior:
        return laplace_at_mode(problem.model, x, torch.zeros(len(x), 3).double())

    sandwich = bidirectional_monte_carlo(problem.model, 6, Annealing(2, 10), seeded(), initial)
    exact = log_likelihood(sandwich.x, *problem.theta).detach()
    torch.testing.assert_close(sandwich.lower, exact, rtol=0, atol=1e-4)
    torch.testing.assert_close(sandwich.upper, exact, rtol=0, atol=1e-4)


def test_a_curved_model_in_single_precision():
    model = vae(d=3, dim=12, gamma=0.01).float()

    def initial(x: torch.Tensor) -> Posterior:
        return laplace_at_mode(model, x, torch.zeros(len(x), 3))

    settings = Annealing(8, 60)
    for start in (None, initial):
        sandwich = bidirectional_monte_carlo(model, 30, settings, seeded(), start)
        error = float(sandwich.gap.std()) / 30**0.5
        assert float(sandwich.gap.mean()) > -3.0 * error
        assert sandwich.gap.isfinite().all()


@torch.no_grad()
def test_the_simulated_data_have_the_moments_of_the_model():
    problem = linear_gaussian(mode="per_pixel", gamma=0.5)
    z, x = simulate(problem.model, 20_000, seeded())
    w, b, gamma = problem.theta
    covariance = w @ w.mT + gamma * torch.eye(6)
    torch.testing.assert_close(z.T.cov(), torch.eye(3).double(), rtol=0, atol=0.05)
    torch.testing.assert_close(x.mean(dim=0), b, rtol=0, atol=0.08)
    torch.testing.assert_close(x.T.cov(), covariance, rtol=0.1, atol=0.1)


def test_pieces_change_nothing_and_the_global_seed_does_not_matter(
    monkeypatch: pytest.MonkeyPatch,
):
    problem, settings, seen = linear_gaussian(), Annealing(2, 10), []
    whole = bidirectional_monte_carlo(problem.model, 5, settings, seeded())
    torch.manual_seed(7)
    monkeypatch.setattr(monte_carlo, "CHUNK_ENTRIES", 2 * 2 * 6)
    pieces = bidirectional_monte_carlo(problem.model, 5, settings, seeded(), progress=seen.append)
    for name in ("x", "lower", "upper"):
        torch.testing.assert_close(getattr(pieces, name), getattr(whole, name))
    assert len(seen) == 3 * (9 + 2 * 9)
    assert seen[-1] == pytest.approx(1.0)


def test_posteriors_without_a_likeness_still_bound():
    # q0 far away and too narrow: bad, but a lower bound and an upper one.
    problem = linear_gaussian()

    def initial(x: torch.Tensor) -> Posterior:
        ones = torch.ones(len(x), 3).double()
        return DiagonalGaussian(ones, -2.0 * ones)

    sandwich = bidirectional_monte_carlo(problem.model, 50, Annealing(4, 20), seeded(), initial)
    exact = log_likelihood(sandwich.x, *problem.theta).detach()
    assert sandwich.lower.mean() < exact.mean() < sandwich.upper.mean()


def test_the_bounds_of_given_weights():
    forward = AnnealedEstimate(torch.tensor([[0.0], [1.0]]), torch.ones(1))
    reverse = AnnealedEstimate(torch.tensor([[2.0], [4.0]]), torch.ones(1))
    sandwich = Sandwich(torch.zeros(1, 6), forward, reverse)
    lower = math.log((1.0 + math.e) / 2)
    upper = -math.log((math.exp(-2.0) + math.exp(-4.0)) / 2)
    assert float(sandwich.lower) == pytest.approx(lower)
    assert float(sandwich.upper) == pytest.approx(upper)
    assert float(sandwich.gap) == pytest.approx(upper - lower)


def test_no_examples_are_refused():
    with pytest.raises(InputError, match="n is 0"):
        bidirectional_monte_carlo(linear_gaussian().model, 0, Annealing(), seeded())
