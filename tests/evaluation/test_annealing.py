"""Schedules, step sizes, and walks in both directions."""

import pytest
import torch
from closed_forms import log_likelihood
from linear_gaussian import LinearGaussian, linear_gaussian, randn

from savi.errors import InputError
from savi.evaluation.annealing import (
    TARGET_ACCEPTANCE,
    AnnealedPath,
    Annealing,
    sigmoidal_schedule,
)
from savi.evaluation.pieces import ExampleStreams
from savi.evaluation.proposals import standard_normal
from savi.vae import DiagonalGaussian, Posterior


def path_of(
    problem: LinearGaussian, settings: Annealing, q0: Posterior | None = None, seed: int = 0
) -> AnnealedPath:
    q0 = standard_normal(problem.model, problem.x) if q0 is None else q0
    generator = torch.Generator().manual_seed(seed)
    streams = ExampleStreams.spawn(len(problem.x), generator, problem.x)
    with torch.no_grad():
        return AnnealedPath(problem.model, problem.x, q0, settings, streams, lambda: None)


def copies(n: int) -> LinearGaussian:
    """One example many times, with a posterior that the prior covers well."""
    problem = linear_gaussian(d=2, dim=4, n=1, gamma=2.0)
    problem.x = problem.x.repeat(n, 1)
    return problem


@pytest.mark.parametrize("steps", [2, 3, 100])
def test_the_schedule_rises_from_0_to_1_finest_at_the_ends(steps: int):
    betas = sigmoidal_schedule(steps)
    assert betas.dtype == torch.float64
    assert len(betas) == steps + 1
    assert betas[0] == 0.0
    assert betas[-1] == 1.0
    assert (betas.diff() > 0).all()
    torch.testing.assert_close(betas + betas.flip(0), torch.ones(steps + 1).double())
    if steps == 100:
        assert betas.diff()[0] < 0.1 * betas.diff()[50]


@pytest.mark.parametrize("steps", [2, 5])
@torch.no_grad()
def test_the_weights_of_both_directions_are_unbiased_for_any_number_of_steps(steps: int):
    n = 3000
    problem = copies(n)
    path = path_of(problem, Annealing(chains=4, steps=steps, leapfrog_steps=2))
    exact = log_likelihood(problem.x, *problem.theta)
    scale_tril = torch.linalg.cholesky(torch.linalg.inv(problem.precision))
    z = problem.posterior_mean + randn(n, 2) @ scale_tril.mT
    forward = (path.forward().log_weights - exact).exp().mean(dim=0)
    reverse = (exact - path.reverse(z).log_weights).exp().mean(dim=0)
    for ratio in (forward, reverse):
        error = float(ratio.std()) / n**0.5
        assert 1e-3 < error < 0.15
        assert float(ratio.mean()) == pytest.approx(1.0, abs=4.0 * error)


@torch.no_grad()
def test_the_walk_has_the_acceptance_that_the_pilot_aims_at():
    problem = linear_gaussian(n=30, gamma=0.01)
    q0 = DiagonalGaussian(*problem.best_diagonal().chunk(2, dim=-1))
    settings = Annealing(chains=32, steps=200)
    path = path_of(problem, settings, q0)
    walk = path.forward()
    assert path.step_sizes.shape == (199, 30)
    assert float(walk.acceptance.mean()) == pytest.approx(TARGET_ACCEPTANCE, abs=0.06)
    # From the prior the law narrows on its way to the posterior, and the step size with it.
    # Backwards, every temperature has to have its own step size again.
    path = path_of(problem, settings)
    assert (path.step_sizes[-1] < 0.25 * path.step_sizes[10]).all()
    for walk in (path.forward(), path.reverse(problem.posterior_mean)):
        assert float(walk.acceptance.mean()) == pytest.approx(TARGET_ACCEPTANCE, abs=0.1)


@torch.no_grad()
def test_step_sizes_and_noise_belong_to_the_example():
    problem = linear_gaussian(n=8)
    whole, settings = path_of(problem, Annealing(4, 30)), Annealing(4, 30)
    problem.x = torch.cat([problem.x[:3], 50.0 * randn(2, 6)])
    other = path_of(problem, settings)
    torch.testing.assert_close(other.step_sizes[:, :3], whole.step_sizes[:, :3])
    one, two = whole.forward().log_weights, other.forward().log_weights
    torch.testing.assert_close(one[:, :3], two[:, :3])


@pytest.mark.parametrize("name", ["chains", "steps", "leapfrog_steps"])
def test_what_makes_no_sense_is_refused(name: str):
    with pytest.raises(InputError, match=f"^{name} is 0"):
        Annealing(**{name: 0})
