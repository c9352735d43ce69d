"""Newton with |H|: exact where J is convex, away from saddle points where it is not."""

import pytest
import torch
from inner_problems import Nonlinear, Quadratic, gradients, nonlinear_inputs, randn, spd

import savi
from savi.gradients import (
    Checkpointed,
    FiniteDifference,
    Implicit,
    OneStep,
    StopGradient,
    Truncated,
    Unrolled,
)
from savi.inner import AutogradObjective, GaussNewton, LevenbergMarquardt, Newton


def solve(objective, init, optimizer, gradient=None, **options):
    gradient = gradient or StopGradient()
    return savi.minimize(objective, init, optimizer=optimizer, gradient=gradient, **options)


def saddle(y):
    """Minima at (0, ±1), a saddle point at 0."""
    return 0.5 * (y[:, 0].square() - y[:, 1].square()) + 0.25 * y[:, 1] ** 4


class Poor(AutogradObjective):
    """With twice the Hessian as its curvature."""

    def curvature(self, y, create_graph=False):
        return 2.0 * self.exact_curvature(y, create_graph)


def test_one_step_solves_a_quadratic():
    problem = Quadratic(spd(3, 4), randn(3, 4, seed=1))
    value = solve(problem, randn(3, 4, seed=2), Newton(damping=1e-12), max_steps=1).value
    torch.testing.assert_close(value, problem.minimiser)


def test_leaves_a_saddle_point_that_newton_without_the_absolute_value_is_drawn_to():
    start = torch.tensor([[1.0, 1e-3], [0.5, -1e-6]], dtype=torch.float64)
    free = solve(saddle, start, Newton(), max_steps=60, rtol=1e-10)
    expected = torch.tensor([[0.0, 1.0], [0.0, -1.0]], dtype=torch.float64)
    torch.testing.assert_close(free.value, expected, rtol=0, atol=1e-8)
    assert (free.status == savi.Status.CONVERGED).all()
    stuck = solve(saddle, start, GaussNewton(1.0, decay=False), max_steps=60, rtol=1e-10)
    assert torch.equal(stuck.value, start)


def test_each_step_doubles_the_distance_from_a_saddle_point():
    start = torch.tensor([[0.0, 1e-6]], dtype=torch.float64)
    value = solve(saddle, start, Newton(damping=1e-14), max_steps=5, rtol=0.0).value
    torch.testing.assert_close(value[0, 1].item(), 32e-6, rtol=1e-4, atol=0)


def test_uses_the_exact_hessian_whatever_the_curvature():
    mixing, c, init = (t.detach() for t in nonlinear_inputs())
    problem = Poor(Nonlinear(mixing, c))
    options = {"max_steps": 60, "rtol": 1e-10}
    exact, poor = (
        solve(problem, init, optimizer, **options) for optimizer in (Newton(), LevenbergMarquardt())
    )
    assert (exact.status == savi.Status.CONVERGED).all()
    assert (2 * exact.steps < poor.steps).all()


def test_one_step_is_as_good_as_the_implicit_gradient():
    """‖I − C⁻¹H‖ = 0 with C = H; with C = 2H it is ½."""
    mixing, c, init = nonlinear_inputs()
    problem, w = Poor(Nonlinear(mixing, c)), randn(3, 2, seed=3)

    def pulled(optimizer, gradient):
        value = solve(problem, init, optimizer, gradient, max_steps=60, rtol=1e-11).value
        return gradients(value, (mixing, c), w)

    expected = pulled(Newton(), Implicit())
    torch.testing.assert_close(pulled(Newton(), OneStep()), expected)
    half = [0.5 * g for g in expected]
    torch.testing.assert_close(pulled(LevenbergMarquardt(), OneStep()), half)


@pytest.mark.parametrize("steps", [1, 4])
def test_gradient_of_steps_through_negative_curvature(steps):
    """Indefinite, negative definite, with a repeated eigenvalue, and positive definite."""
    start = torch.tensor(
        [[0.4, 2.3], [1.0, 0.3], [0.0, 0.0], [2.1, 2.9]], dtype=torch.float64, requires_grad=True
    )
    theta = torch.tensor([1.0, 0.2], dtype=torch.float64, requires_grad=True)

    def problem(t):
        return AutogradObjective(
            lambda y: (t[0] * y).cos().sum(-1) + t[1] * y.sum(-1) + 0.05 * y.square().sum(-1)
        )

    spectra = torch.linalg.eigvalsh(problem(theta.detach()).exact_curvature(start.detach()))
    assert (spectra > 0).tolist() == [[False, True], [False, False], [False, False], [True, True]]
    assert spectra[2, 0] == spectra[2, 1]

    def step_map(t, y):
        return solve(problem(t), y, Newton(), Unrolled(), max_steps=steps, rtol=0.0).value

    torch.autograd.gradcheck(step_map, (theta, start), atol=1e-6, rtol=1e-5)
    w = randn(4, 2, seed=0)
    expected = gradients(step_map(theta, start), (theta, start), w)
    for backend in (Checkpointed("step"), Checkpointed("sqrt"), Truncated(100)):
        value = solve(problem(theta), start, Newton(), backend, max_steps=steps, rtol=0.0).value
        torch.testing.assert_close(gradients(value, (theta, start), w), expected)


@pytest.mark.drawn
def test_a_definite_hessian_is_never_decomposed(monkeypatch):
    mixing, c, init = (t.detach() for t in nonlinear_inputs())

    def refuse(*args, **kwargs):
        raise AssertionError("decomposed")

    monkeypatch.setattr(torch.linalg, "eigh", refuse)
    solution = solve(Nonlinear(mixing, c), init, Newton(), max_steps=30)
    assert (solution.status == savi.Status.CONVERGED).all()
    with pytest.raises(AssertionError, match="decomposed"):
        solve(saddle, init, Newton(), max_steps=30)


def test_a_hessian_that_is_not_finite_gives_no_step():
    start = torch.tensor([[0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    problem = lambda y: (y.abs() ** 1.5).sum(-1) + y.sum(-1)  # noqa: E731
    solution = solve(problem, start, Newton(), max_steps=5)
    assert torch.equal(solution.value[0], start[0])
    assert (solution.value[1] != start[1]).all()
    assert solution.value.isfinite().all()


def test_first_derivatives_alone_cannot_differentiate_it():
    with pytest.raises(savi.InputError, match="second derivatives of the objective"):
        solve(saddle, torch.ones(1, 2), Newton(), FiniteDifference())
