"""The problems of the safety benchmark are what they say, and their answers are right."""

import math

import pytest
import torch
from benchmarks.reference import hessian, minimiser
from benchmarks.safety.problem import CONTROL, FAMILIES, descend, stationarity
from scipy.optimize import minimize as scipy_minimize

SMOOTH = (
    CONTROL, "ill_conditioned", "not_converged", "saddle", "stopped_early", "tiny_cotangent",
)  # fmt: skip


def finite_differences(solve, problem, step):
    """(dλ*/dθ)ᵀ w by central differences of ``solve``: θ ↦ λ* [P]."""
    theta, w = problem.theta.double(), problem.cotangent[0].double()
    derivative = []
    for direction in torch.eye(len(theta), dtype=torch.float64):
        rise = solve(theta + step * direction) - solve(theta - step * direction)
        derivative.append(float(rise @ w) / (2.0 * step))
    return torch.tensor(derivative, dtype=torch.float64)


def some(problems, count):
    """A few of those with an answer, over the whole family."""
    answered = [problem for problem in problems if problem.answer is not None]
    return answered[:: max(1, len(answered) // count)]


def test_there_are_enough(problems):
    ill_posed = [p for name, members in problems.items() if name != CONTROL for p in members]
    assert len(ill_posed) >= 300
    assert len(problems[CONTROL]) >= 100
    assert len(problems) == 13


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_problem_is_complete(family, problems):
    for problem in problems[family]:
        batch = problem.init.expand(2, -1)
        assert problem.energy(batch, problem.theta).shape == (2,), problem.name
        assert problem.cotangent.shape == problem.init.shape
        assert problem.theta.dtype == problem.init.dtype == problem.cotangent.dtype
        assert problem.cotangent.any()
        if problem.answer is not None:
            assert problem.answer.dtype == torch.float64
            assert problem.answer.shape == problem.theta.shape
            assert torch.isfinite(problem.answer).all()


@pytest.mark.parametrize("family", ["kink", "not_finite", "singular"])
def test_a_seed_gives_the_same_problems(family, problems):
    again, other = FAMILIES[family](0), FAMILIES[family](1)
    for first, second in zip(problems[family], again, strict=True):
        assert first.name == second.name
        torch.testing.assert_close(first.theta, second.theta, rtol=0, atol=0)
        torch.testing.assert_close(first.cotangent, second.cotangent, rtol=0, atol=0)
    assert not torch.equal(problems[family][0].cotangent, other[0].cotangent)


@pytest.mark.parametrize("family", SMOOTH)
def test_smooth_answers_agree_with_finite_differences(family, problems):
    for problem in some(problems[family], 6):
        # The answer of a saddle is that of the minimiser ahead, so each solve starts from λ0. The
        # ill-conditioned ones have answers of their own size.
        step = 1e-5 if family == "ill_conditioned" else 1e-4
        measured = finite_differences(
            lambda theta, p=problem: minimiser(p.energy, theta, p.init)[0], problem, step
        )
        error = (measured - problem.answer).norm() / problem.answer.norm()
        assert error < 1e-3, (problem.name, error)


def search(problem, theta):
    """λ* in float64 by a search without derivatives, started at λ0."""

    def value(y):
        with torch.no_grad():
            result = float(problem.energy(torch.tensor(y, dtype=torch.float64)[None], theta))
        return math.inf if math.isnan(result) else result

    point = problem.init[0].double().numpy()
    for _ in range(3):
        options = {"xatol": 1e-10, "fatol": 1e-16, "maxiter": 2000}
        point = scipy_minimize(value, point, method="Nelder-Mead", options=options).x
    return torch.tensor(point)


CLOSED = [
    ("kink", "|y|, P = 2"),
    ("kink", "exactly on |y|, P = 3"),
    ("kink", "relu, P = 2"),
    ("kink", "exactly on a tie of max, P = 3"),
    ("kink", "|y₁ − y₂|"),
    ("kink", "exactly on ‖y‖, P = 2"),
    ("not_finite", "a step out of the domain of log"),
    ("not_finite", "√Σy² at y = 0"),
    ("not_finite", "a NaN behind where()"),
    ("not_finite", "exp throws"),
    (CONTROL, "|y| far from its kink"),
    (CONTROL, "max far from its kink"),
]


@pytest.mark.parametrize(("family", "name"), CLOSED)
def test_closed_answers_agree_with_a_search(family, name, problems):
    problem = next(problem for problem in problems[family] if problem.name.startswith(name))
    measured = finite_differences(lambda theta: search(problem, theta), problem, 1e-3)
    error = (measured - problem.answer).norm() / problem.cotangent.norm()
    assert error < 1e-3, error


def test_a_jump_of_curvature_has_the_derivative_of_its_side(problems):
    (problem, *_) = [p for p in problems["kink"] if "jump" in p.name]
    # ∇J = y + relu(y) − θ.
    value = torch.where(problem.theta > 0, 0.5, 1.0) * problem.theta
    value = value.double().requires_grad_()
    (slope,) = torch.autograd.grad(problem.energy(value[None], problem.theta.double()).sum(), value)
    torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-9, rtol=0)
    expected = value / problem.theta * problem.cotangent[0]
    torch.testing.assert_close(problem.answer, expected.detach(), rtol=1e-6, atol=0)


def test_singular_problems_are_singular(problems):
    for problem in problems["singular"]:
        end = descend(problem, problem.theta).value
        curvatures = torch.linalg.eigvalsh(hessian(problem.energy, end, problem.theta))
        # The quartic gets there in the limit only.
        limit = 0.1 if "quartic" in problem.name else 1e-3
        assert curvatures.abs().min() < limit * max(1.0, float(curvatures.abs().max())), problem


def test_saddles_are_stationary_and_indefinite(problems):
    for problem in problems["saddle"]:
        if problem.answer is None:
            end = descend(problem, problem.theta).value
            assert stationarity(problem, end) <= 0.01
            assert torch.linalg.eigvalsh(hessian(problem.energy, end, problem.theta)).min() < -0.1


@pytest.mark.parametrize("family", [CONTROL, "tiny_cotangent"])
def test_controls_are_solved(family, problems):
    for problem in problems[family]:
        end = descend(problem, problem.theta)
        assert end.steps < problem.max_steps or problem.newton, problem.name
        assert stationarity(problem, end.value) <= problem.rtol, problem.name


def test_stopped_early_is_stopped_early(problems):
    for problem in problems["stopped_early"]:
        end = descend(problem, problem.theta)
        assert end.steps == problem.max_steps
        assert 3e-4 < stationarity(problem, end.value) <= 0.3, problem.name


def test_tiny_cotangents_are_tiny(problems):
    sizes = [float(problem.cotangent.double().norm()) for problem in problems["tiny_cotangent"]]
    assert max(sizes) < 1e-18
    assert 0.0 < min(sizes) < 1e-37
