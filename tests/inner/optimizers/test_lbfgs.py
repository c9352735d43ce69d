"""L-BFGS: its line search, its history, and its derivative."""

import pytest
import torch
from inner_problems import Quadratic, gradients, randn
from linear_gaussian import linear_gaussian, objective_of, start

import savi
from savi.gradients import Checkpointed, FiniteDifference, StopGradient, Truncated, Unrolled
from savi.inference.negative_elbo import NegativeELBO
from savi.inner import LBFGS, AutogradObjective, GradientDescent, Proximal


def solve(objective, init, optimizer=None, gradient=None, **options):
    return savi.minimize(
        objective,
        init,
        optimizer=optimizer or LBFGS(),
        gradient=gradient or StopGradient(),
        **options,
    )


def wells(t):
    """Narrow log-cosh wells around t₀, into which a step of length 1 overshoots."""

    def objective(y):
        a = t[1] * (y - t[0])
        return (a.abs() + torch.nn.functional.softplus(-2.0 * a.abs())).sum(-1)

    return objective


def rosenbrock(y):
    return 100.0 * (y[:, 1] - y[:, 0].square()).square() + (1.0 - y[:, 0]).square()


def test_an_ill_conditioned_quadratic():
    hessian = torch.diag(torch.logspace(-2, 2, 8, dtype=torch.float64)).expand(3, 8, 8)
    problem, init = Quadratic(hessian, randn(3, 8, seed=1)), randn(3, 8, seed=2)
    solution = solve(problem, init, max_steps=150, rtol=1e-8)
    assert (solution.status == savi.Status.CONVERGED).all()
    descent = solve(problem, init, GradientDescent(0.01), max_steps=150, rtol=1e-8)
    assert (descent.stationarity > 1e-3).all()


def test_a_curved_valley():
    init = torch.tensor([[-1.2, 1.0], [3.0, -2.0]], dtype=torch.float64)
    solution = solve(rosenbrock, init, max_steps=100, rtol=1e-10)
    torch.testing.assert_close(solution.value, torch.ones_like(init), rtol=0, atol=1e-7)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_first_step_has_a_length_of_about_one_whatever_the_scale(scale):
    init = torch.tensor([[30.0, -40.0]], dtype=torch.float64)
    value = solve(lambda y: scale * y.square().sum(-1), init, max_steps=1).value
    assert 0.7 < (value - init).norm() < 1.42


def test_a_rejected_step_is_shortened_by_interpolation():
    """Of a parabola with its minimum at distance 1/100: one rejection, then next to it."""
    init = torch.tensor([[0.01]], dtype=torch.float64)
    problem = lambda y: 3.0 * y.square().sum(-1)  # noqa: E731
    once, twice = (solve(problem, init, max_steps=k, rtol=0.0) for k in (1, 2))
    assert torch.equal(once.value, init)
    # The factor 1/128 is out of reach of a single trial, which divides by 32 at most.
    thrice = solve(problem, init, max_steps=3, rtol=0.0)
    assert torch.equal(twice.value, init)
    assert thrice.value.abs() < 0.005


@pytest.mark.parametrize("history", [2, 10])
def test_gradient_with_rejected_steps_and_a_full_history(history):
    init = torch.tensor([[0.3, 0.2], [0.15, -2.0], [0.9, 0.12]], dtype=torch.float64)
    theta = torch.tensor([0.1, 20.0], dtype=torch.float64, requires_grad=True)
    optimizer, options = LBFGS(history), {"max_steps": 9, "rtol": 0.0}
    first = solve(wells(theta), init, optimizer, max_steps=1).value
    assert (first == init).all(dim=-1).any()
    assert (first != init).any(dim=-1).any()
    init.requires_grad_()

    def step_map(t, y, backend):
        return solve(wells(t), y, optimizer, backend, **options).value

    torch.autograd.gradcheck(
        lambda t, y: step_map(t, y, Unrolled()), (theta, init), atol=1e-6, rtol=1e-4
    )
    w = randn(3, 2, seed=0)
    expected = gradients(step_map(theta, init, Unrolled()), (theta, init), w)
    for backend, tolerance in (
        (Checkpointed("step"), 1e-9),
        (Checkpointed("sqrt"), 1e-9),
        (Truncated(100), 1e-9),
        (FiniteDifference(), 1e-4),
    ):
        result = gradients(step_map(theta, init, backend), (theta, init), w)
        torch.testing.assert_close(result, expected, rtol=tolerance, atol=tolerance)


def test_the_second_derivative_of_the_steps():
    theta = torch.tensor([0.1, 3.0], dtype=torch.float64, requires_grad=True)
    init = torch.tensor([[0.8, -0.4]], dtype=torch.float64)

    def loss(t):
        return solve(wells(t), init, None, Unrolled(), max_steps=4, rtol=0.0).value.square().sum()

    torch.autograd.gradgradcheck(loss, theta, atol=1e-5, rtol=1e-3)


def test_a_line_search_that_fails_begins_again_without_a_history():
    """Pairs from a region where J bends 10⁸ times more weakly are of no use in this one."""
    state = LBFGS().init(torch.ones(1, 2, dtype=torch.float64))
    optimizer, objective = LBFGS(), AutogradObjective(lambda y: 1e8 * y.square().sum(-1))
    y = torch.ones(1, 2, dtype=torch.float64)
    pairs, _ = state.pairs.followed_by(y, 1e-8 * y)
    point = savi.inner.optimizers.Point(y, *objective.gradient(y))
    state = state._replace(y=y, gradient=point.gradient, pairs=pairs, length=torch.ones(1).double())
    for _ in range(12):
        trial, state = optimizer.step(objective, point, state, False)
        accepted, state = optimizer.judge(point, trial, objective.value(trial), state)
        if accepted:
            break
    assert accepted
    assert not state.pairs.known.any()


@pytest.mark.parametrize("name", ["diagonal_gaussian", "full_gaussian"])
def test_the_fisher_matrix_saves_steps(name, monkeypatch):
    problem = linear_gaussian(d=4, dim=12, n=6, gamma=0.01)
    init, objective = start(problem, name), objective_of(problem.model, problem.x, name)
    informed = solve(objective, init, max_steps=300, rtol=1e-6)
    monkeypatch.setattr(NegativeELBO, "natural_gradient", lambda self, y, gradient: gradient)
    plain = solve(objective, init, max_steps=300, rtol=1e-6)
    assert (informed.status == savi.Status.CONVERGED).all()
    assert informed.steps.double().mean() < 0.7 * plain.steps.double().mean()


def test_fresh_noise_is_refused():
    problem = linear_gaussian()
    base = objective_of(problem.model, problem.x)
    base.stochastic = True
    for objective in (base, Proximal(base, start(problem), 1.0)):
        with pytest.raises(savi.InputError, match=r"^LBFGS with an objective that is redrawn"):
            solve(objective, start(problem))
