"""The natural gradient: steepest in KL, exact where q is right, and refused without a q."""

from itertools import pairwise

import pytest
import torch
from inner_problems import Nonlinear, WithFisher, gradients, nonlinear_inputs, randn
from linear_gaussian import linear_gaussian, objective_of, start, vae

import savi
from savi.errors import InputError
from savi.gradients import Checkpointed, FiniteDifference, StopGradient, Truncated, Unrolled
from savi.inner import AutogradObjective, GradientDescent, NaturalGradient, Proximal, TrustRegion

FAMILIES = ["diagonal_gaussian", "full_gaussian"]


def solve(objective, init, optimizer=None, gradient=None, **options):
    return savi.minimize(
        objective,
        init,
        optimizer=optimizer or NaturalGradient(),
        gradient=gradient or StopGradient(),
        **options,
    )


def test_the_first_step():
    mixing, c, init = (t.detach() for t in nonlinear_inputs())
    problem = WithFisher(Nonlinear(mixing, c))
    _, g = problem.gradient(init)
    value = solve(problem, init, NaturalGradient(lr=1e-3), max_steps=1).value
    torch.testing.assert_close(value, init - 1e-3 * g / (2.0 + init.sin()))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_scale_can_take_shorter_steps(name):
    """To first order its part of a step is so many times shorter, and the mean's is the same."""
    problem = linear_gaussian()
    init, objective = start(problem, name), objective_of(problem.model, problem.x, name)

    def moved(**options):
        step = NaturalGradient(lr=1e-5, **options)
        return solve(objective, init, step, max_steps=1).value - init

    plain, shorter = moved(), moved(scale_lr=0.25)
    torch.testing.assert_close(shorter[:, :3], plain[:, :3], rtol=1e-3, atol=0.0)
    torch.testing.assert_close(shorter[:, 3:], plain[:, 3:] / 4, rtol=1e-3, atol=1e-12)


@pytest.mark.parametrize("name", FAMILIES)
def test_shorter_steps_of_the_scale_end_at_the_same_optimum(name):
    problem = linear_gaussian()
    init, objective = start(problem, name), objective_of(problem.model, problem.x, name)
    plain = solve(objective, init, max_steps=300, rtol=1e-9)
    shorter = solve(objective, init, NaturalGradient(scale_lr=0.3), max_steps=300, rtol=1e-9)
    torch.testing.assert_close(shorter.value, plain.value, rtol=1e-6, atol=1e-6)


def test_a_scale_that_nothing_is_known_of_is_refused():
    mixing, c, init = (t.detach() for t in nonlinear_inputs())
    with pytest.raises(InputError, match=r"scale_lr is 0\.3, and WithFisher .*leave scale_lr at 1"):
        solve(WithFisher(Nonlinear(mixing, c)), init, NaturalGradient(scale_lr=0.3), max_steps=1)


def test_one_step_finds_the_mean_where_the_covariance_is_right():
    """F⁻¹ = Σ in the mean, the inverse of the Hessian of an affine decoder's J."""
    problem = linear_gaussian(gamma=0.01)
    init = problem.best_full()
    init[:, :3] += randn(5, 3, seed=1)
    objective = objective_of(problem.model, problem.x, "full_gaussian")
    solution = solve(objective, init, max_steps=1)
    torch.testing.assert_close(solution.value, problem.best_full())


@pytest.mark.parametrize("name", FAMILIES)
def test_converges_where_descent_crawls(name):
    problem = linear_gaussian(d=4, dim=20, n=8, gamma=0.01)
    init, objective = start(problem, name), objective_of(problem.model, problem.x, name)
    solution = solve(objective, init, max_steps=200, rtol=1e-7)
    assert (solution.status == savi.Status.CONVERGED).all()
    descent = solve(objective, init, GradientDescent(1e-4), max_steps=200, rtol=1e-7)
    assert (descent.status == savi.Status.MAX_STEPS).all()
    assert (descent.objective > solution.objective).all()


@pytest.mark.drawn
@pytest.mark.parametrize(
    ("name", "rho"), [*((name, None) for name in FAMILIES), (FAMILIES[0], 2.0)]
)
def test_gradient_of_the_steps(name, rho):
    """In λ0 and a weight of the decoder, with rejected trials."""
    torch.manual_seed(0)
    model, x = vae(d=2, dim=4, gamma=0.05), randn(3, 4, seed=0)
    weight, base = model.decoder.head.weight, objective_of(model, x, name)
    init = start(linear_gaussian(d=2, dim=4, n=3), name).requires_grad_()

    def value(y, gradient, max_steps=5):
        objective = base if rho is None else Proximal(base, y, rho)
        options = {"gradient": gradient, "max_steps": max_steps, "rtol": 0.0}
        return solve(objective, y, NaturalGradient(), **options).value

    path = [value(init, StopGradient(), max_steps=k) for k in range(6)]
    assert any((at == after).all(dim=-1).any() for at, after in pairwise(path))
    assert (path[-1] != init).any(dim=-1).all()
    v, move = randn(*init.shape, seed=1), (randn(*weight.shape, seed=2), randn(*init.shape, seed=3))
    expected = gradients(value(init, Unrolled()), (weight, init), v)
    assert all(g.any() for g in expected)

    def moved(h):
        with torch.no_grad():
            weight.add_(move[0], alpha=h)
        loss = (v * value(init.detach() + h * move[1], StopGradient())).sum()
        with torch.no_grad():
            weight.sub_(move[0], alpha=h)
        return loss

    slope = (moved(1e-6) - moved(-1e-6)) / 2e-6
    along = sum((g * m).sum() for g, m in zip(expected, move, strict=True))
    torch.testing.assert_close(along, slope, rtol=1e-6, atol=1e-6)
    for backend, tolerance in (
        (Checkpointed("step"), 1e-9),
        (Checkpointed("sqrt"), 1e-9),
        (Truncated(100), 1e-9),
        (FiniteDifference(), 1e-5),
    ):
        result = gradients(value(init, backend), (weight, init), v)
        torch.testing.assert_close(result, expected, rtol=tolerance, atol=tolerance)


def test_an_objective_without_a_fisher_matrix_is_refused():
    problem = linear_gaussian()
    for objective in (
        lambda y: y.square().sum(-1),
        AutogradObjective(lambda y: y.square().sum(-1)),
        objective_of(problem.model, problem.x, "laplace"),
        objective_of(problem.model, problem.x, "point_mass"),
    ):
        with pytest.raises(savi.InputError, match="has no Fisher matrix, so give") as error:
            solve(objective, start(problem, "laplace"))
        assert "\n" not in str(error.value)
    assert problem.model.decoder_evaluations == 0


def test_a_trust_region_is_refused():
    problem = linear_gaussian()
    region = TrustRegion(objective_of(problem.model, problem.x), start(problem), 1.0)
    with pytest.raises(savi.InputError, match=r"constrained objective: .*, so give optimizer="):
        solve(region, start(problem))
    assert problem.model.decoder_evaluations == 0
