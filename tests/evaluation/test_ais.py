"""Annealed importance sampling, against the closed form of an affine model."""

import math

import pytest
import torch
from closed_forms import log_likelihood
from linear_gaussian import LinearGaussian, linear_gaussian, randn, vae
from torch import Tensor

from savi.errors import InputError
from savi.evaluation.ais import annealed_log_likelihood
from savi.evaluation.annealing import AnnealedEstimate, Annealing
from savi.evaluation.bounds import importance_log_likelihood
from savi.evaluation.proposals import laplace_at_mode
from savi.vae import DiagonalGaussian, PointMass, Posterior, monte_carlo


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def diagonal(problem: LinearGaussian) -> Posterior:
    return DiagonalGaussian(*problem.best_diagonal().chunk(2, dim=-1))


def from_prior(problem: LinearGaussian) -> None:
    return None


@pytest.mark.parametrize(
    ("initial", "gamma"), [(from_prior, 0.25), (diagonal, 0.1), (diagonal, 1e-3)]
)
def test_it_comes_within_its_own_error_of_the_exact_likelihood(initial, gamma: float):
    problem = linear_gaussian(n=30, gamma=gamma)
    exact = log_likelihood(problem.x, *problem.theta).detach()
    estimate = annealed_log_likelihood(
        problem.model, problem.x, Annealing(32, 200), seeded(), initial(problem)
    )
    error = estimate.log_likelihood - exact
    standardised = error / estimate.standard_error
    assert standardised.abs().max() < 4.5
    assert 0.5 < standardised.std() < 1.8
    assert float(error.mean()) == pytest.approx(0.0, abs=0.05)
    assert (estimate.effective_samples > 8).all()
    assert (estimate.effective_samples <= 32).all()


def test_from_the_exact_posterior_it_is_exact():
    problem = linear_gaussian(gamma=1e-3)
    exact = log_likelihood(problem.x, *problem.theta).detach()
    q0 = laplace_at_mode(problem.model, problem.x, torch.zeros(5, 3).double())
    estimate = annealed_log_likelihood(problem.model, problem.x, Annealing(2, 10), seeded(), q0)
    torch.testing.assert_close(estimate.log_likelihood, exact, rtol=0, atol=1e-4)
    torch.testing.assert_close(
        estimate.effective_samples, torch.full((5,), 2.0).double(), rtol=1e-5, atol=0
    )


def test_it_is_a_lower_bound_that_more_temperatures_and_chains_tighten():
    problem = linear_gaussian(n=100, gamma=0.02)
    exact = log_likelihood(problem.x, *problem.theta).detach().mean()

    def loss(chains: int, steps: int) -> float:
        settings = Annealing(chains, steps)
        estimate = annealed_log_likelihood(problem.model, problem.x, settings, seeded())
        return float(exact - estimate.log_likelihood.mean())

    few, more_steps, more_chains = loss(2, 5), loss(2, 100), loss(64, 5)
    assert few > 2 * more_steps > 0
    assert few > 2 * more_chains > 0


def test_where_importance_sampling_fails_annealing_does_not():
    # A posterior far narrower than the proposal, in a curved model and in float32.
    torch.manual_seed(0)
    model = vae(d=3, dim=12, gamma=1e-3).float()
    model.requires_grad_(False)
    z = torch.randn(8, 3)
    x = model.decode(z) + 1e-3**0.5 * torch.randn(8, 12)
    prior = DiagonalGaussian(torch.zeros(8, 3), torch.zeros(8, 3))
    codes = 1.2 * 16 * 300 * 3
    weighted = importance_log_likelihood(model, prior, x, int(codes), seeded())
    annealed = annealed_log_likelihood(model, x, Annealing(16, 300), seeded())
    assert float(weighted.effective_samples.median()) < 3
    assert float(annealed.log_likelihood.mean() - weighted.log_likelihood.mean()) > 0.5
    q0 = laplace_at_mode(model, x, torch.zeros(8, 3))
    nearer = annealed_log_likelihood(model, x, Annealing(16, 300), seeded(), q0)
    assert nearer.log_likelihood.mean() > annealed.log_likelihood.mean() - 0.1
    assert nearer.standard_error.mean() < 0.5 * annealed.standard_error.mean()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_single_and_double_precision_agree_with_the_exact_likelihood(dtype: torch.dtype):
    problem = linear_gaussian(n=20)
    exact = log_likelihood(problem.x, *problem.theta).detach()
    model, x = problem.model.to(dtype), problem.x.to(dtype)
    estimate = annealed_log_likelihood(model, x, Annealing(32, 200), seeded())
    assert estimate.log_likelihood.dtype == torch.float64
    assert estimate.acceptance.dtype == dtype
    torch.testing.assert_close(estimate.log_likelihood, exact, rtol=0, atol=0.6)
    assert float((estimate.log_likelihood - exact).mean()) == pytest.approx(0.0, abs=0.05)


def results(estimate: AnnealedEstimate) -> tuple[Tensor, Tensor]:
    return estimate.log_weights, estimate.acceptance


def test_pieces_and_batches_change_nothing(monkeypatch: pytest.MonkeyPatch):
    problem = linear_gaussian(n=7)
    settings, q0 = Annealing(4, 30), diagonal(problem)
    whole = annealed_log_likelihood(problem.model, problem.x, settings, seeded(), q0)
    part = annealed_log_likelihood(problem.model, problem.x[:3], settings, seeded(), q0[:3])
    torch.testing.assert_close(whole.log_weights[:, :3], part.log_weights)
    for examples in (2, 0):  # 0: not even one fits
        monkeypatch.setattr(monte_carlo, "CHUNK_ENTRIES", examples * 4 * 6)
        pieces = annealed_log_likelihood(problem.model, problem.x, settings, seeded(), q0)
        torch.testing.assert_close(results(pieces), results(whole))


def test_the_noise_is_the_generators_alone():
    problem, settings = linear_gaussian(), Annealing(4, 20)
    estimates = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        estimates.append(annealed_log_likelihood(problem.model, problem.x, settings, seeded()))
        following = torch.rand(1)
        torch.manual_seed(seed)
        assert torch.equal(torch.rand(1), following)
    assert torch.equal(estimates[0].log_weights, estimates[1].log_weights)
    other = annealed_log_likelihood(problem.model, problem.x, settings, seeded(1))
    assert not torch.equal(other.log_weights, estimates[0].log_weights)


def test_the_model_is_left_as_it_was():
    problem = linear_gaussian(mode="learned")
    estimate = annealed_log_likelihood(problem.model, problem.x, Annealing(2, 5), seeded())
    assert not estimate.log_weights.requires_grad
    assert all(parameter.grad is None for parameter in problem.model.parameters())
    # The pilot of 5 temperatures, the walk of 5, and the two starts.
    assert problem.model.decoder_evaluations == 5 + 2 * 5 * (2 + 2 * 4 * 3)


def test_the_figures_of_given_weights():
    estimate = AnnealedEstimate(torch.tensor([[0.0], [math.log(3.0)]]), torch.ones(1))
    assert float(estimate.log_likelihood) == pytest.approx(math.log(2.0))
    assert float(estimate.effective_samples) == pytest.approx(16.0 / 10.0)
    assert float(estimate.standard_error) == pytest.approx(0.5)


def test_progress_rises_to_the_whole(monkeypatch: pytest.MonkeyPatch):
    problem, seen = linear_gaussian(n=4), []
    monkeypatch.setattr(monte_carlo, "CHUNK_ENTRIES", 2 * 2 * 6)
    annealed_log_likelihood(
        problem.model, problem.x, Annealing(2, 30), seeded(), progress=seen.append
    )
    assert len(seen) == 2 * (29 + 19)
    assert seen == sorted(set(seen))
    assert seen[-1] == pytest.approx(1.0)


def test_what_makes_no_sense_is_refused():
    problem = linear_gaussian()
    point, few = PointMass(randn(5, 3)), diagonal(problem)[:3]
    with pytest.raises(InputError, match="no density"):
        annealed_log_likelihood(problem.model, problem.x, Annealing(), seeded(), point)
    with pytest.raises(InputError, match="initial has 3 examples and x has 5"):
        annealed_log_likelihood(problem.model, problem.x, Annealing(), seeded(), few)
