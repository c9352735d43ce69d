"""The other calls of the safety benchmark: their answers, and what the library makes of them."""

import numpy as np
import pytest
import torch
from benchmarks.safety import CALLS, spread
from benchmarks.safety.call import Call, complex_step
from benchmarks.safety.head_calls import Decoder
from benchmarks.safety.hypergradient_calls import Regression
from benchmarks.safety.judge import Outcome, judge_call
from benchmarks.safety.problem import Draw
from benchmarks.safety.qp_calls import Program
from benchmarks.safety.step_calls import Coupled
from benchmarks.safety.surrounding_calls import Quartic
from scipy.optimize import minimize as scipy_minimize

from savi.inner import Adam, GradientDescent


@pytest.fixture(scope="module")
def calls():
    return {name: build(0) for name, build in CALLS.items()}


def central(function, theta, step=1e-5):
    """dfunction/dθ of a scalar, by central differences."""
    axes = step * torch.eye(len(theta), dtype=torch.float64)
    rises = [float(function(theta + axis) - function(theta - axis)) for axis in axes]
    return torch.tensor(rises, dtype=torch.float64) / (2.0 * step)


@pytest.mark.parametrize("family", CALLS)
def test_there_are_hazards_and_controls(family, calls):
    for well_posed in (False, True):
        assert sum(call.well_posed == well_posed for call in calls[family]) >= 5


@pytest.mark.parametrize("family", CALLS)
def test_well_posed_calls_have_answers_that_are_not_0(family, calls):
    for call in calls[family]:
        assert call.answer is not None or not call.well_posed
        for part in call.answer or ():
            assert part.dtype == torch.float64
            assert torch.isfinite(part).all()
            assert part.any(), call.name


@pytest.mark.slow
@pytest.mark.parametrize("family", CALLS)
def test_the_library_is_never_wrong_in_silence_and_gives_no_false_alarm(family, calls):
    verdicts = [(call, judge_call(call, 1e-2)) for call in calls[family]]
    assert [c.name for c, v in verdicts if v.outcome is Outcome.SILENT] == []
    assert [(c.name, v.word) for c, v in verdicts if c.well_posed and v.word] == []


@pytest.mark.parametrize("family", CALLS)
def test_a_few_of_each_family(family, calls):
    for call in spread(calls[family], 4):
        verdict = judge_call(call, 1e-2)
        assert verdict.outcome is not Outcome.SILENT, call.name
        if call.well_posed:
            assert (verdict.outcome, verdict.word) == (Outcome.RIGHT, ""), call.name


def test_the_worst_part_of_an_answer_counts():
    right = [torch.ones(2, dtype=torch.float64)] * 2
    call = Call("", lambda: [torch.ones(2), torch.tensor([1.0, 1.1])], right)
    verdict = judge_call(call, 1e-2)
    assert verdict.outcome is Outcome.SILENT
    assert verdict.error == pytest.approx(0.1 / 2**0.5, rel=1e-5)


def test_parts_of_another_shape_are_no_answer():
    call = Call("", lambda: [torch.ones(2, 1)], [torch.ones(2, dtype=torch.float64)])
    with pytest.raises(ValueError, match="shape"):
        judge_call(call, 1e-2)


def test_steps_of_gradient_descent_on_a_quadratic():
    """1 − (1 − αa)^K, where the quartic term is negligible."""
    draw = Draw(0)
    problem = Coupled.drawn(draw, 3, torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64))
    theta, w = draw.normal(3), draw.normal(2, 3)
    start = (theta + 1e-9).expand(2, -1)
    found = complex_step(lambda t: problem.end(start, GradientDescent(0.1), 7, t), theta, w)
    expected = w.sum(dim=0) * (1.0 - (1.0 - 0.1 * problem.a) ** 7)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("optimizer", [Adam(0.05), GradientDescent(0.1, 0.5)])
def test_derivatives_of_steps_agree_with_differences(optimizer):
    draw = Draw(1)
    problem, theta, w = Coupled.drawn(draw, 3), draw.normal(3), draw.normal(2, 3)
    start = theta + draw.normal(2, 3)

    def value(theta):
        return (problem.end(start, optimizer, 9, theta.numpy()).real * w.numpy()).sum()

    found = complex_step(lambda t: problem.end(start, optimizer, 9, t), theta, w)
    torch.testing.assert_close(found, central(value, theta), rtol=1e-6, atol=1e-8)


def test_the_slope_of_the_steps_is_that_of_the_energy():
    draw = Draw(2)
    problem, theta, y = Coupled.drawn(draw, 4), draw.normal(4), draw.normal(2, 4).requires_grad_()
    (slope,) = torch.autograd.grad(problem.energy(y, theta).sum(), y)
    by_numpy = problem.slope(y.detach().numpy(), theta.numpy())
    torch.testing.assert_close(slope, torch.from_numpy(by_numpy))


@pytest.mark.parametrize("curved", [False, True])
def test_hypergradients_agree_with_retraining(curved):
    problem = Regression(Draw(3), 3, curved=curved)
    w, h = problem.minimiser().requires_grad_(), problem.h
    (slope,) = torch.autograd.grad(problem.inner(w, h), w)
    assert slope.abs().max() < 1e-10

    def retrained(h):
        problem.h = h
        return problem.outer(problem.minimiser(), h)

    exact = problem.exact()
    torch.testing.assert_close(exact, central(retrained, h), rtol=1e-6, atol=1e-8)


def test_roots_are_minimisers():
    problem = Quartic.drawn(Draw(4), 2, 3)

    def value(c):
        moved = problem._replace(c=c.view(2, 3))
        solution = torch.zeros(2, 3, dtype=torch.float64)
        for _ in range(60):
            slope = solution + problem.a * solution**3 - moved.c
            solution = solution - slope / (1.0 + 3.0 * problem.a * solution**2)
        return (solution * problem.w).sum()

    found = central(value, problem.c.reshape(-1)).view(2, 3)
    torch.testing.assert_close(problem.exact(), found, rtol=1e-6, atol=1e-8)


def test_programs_are_solved_where_they_were_made():
    draw = Draw(5)
    L = draw.normal(4, 4).numpy()
    free, A = np.array([True, True, True, False]), draw.normal(1, 4).numpy()
    program = Program.boxed(draw, L @ L.T + np.eye(4), free, A)

    def solved(q, h):
        constraints = [
            {"type": "eq", "fun": lambda x: program.A @ x - program.b},
            {"type": "ineq", "fun": lambda x: h - program.G @ x},
        ]
        return scipy_minimize(
            lambda x: 0.5 * x @ program.Q @ x + q @ x, np.zeros(4), constraints=constraints,
            method="SLSQP", options={"ftol": 1e-15, "maxiter": 300},
        ).x  # fmt: skip

    assert np.abs(solved(program.q, program.h) - program.x).max() < 1e-6
    in_q, in_h = program.derivatives()
    q, h = torch.from_numpy(program.q), torch.from_numpy(program.h)
    by_q = central(lambda q: program.w @ solved(q.numpy(), program.h), q, 1e-2)
    by_h = central(lambda h: program.w @ solved(program.q, h.numpy()), h, 1e-2)
    torch.testing.assert_close(torch.from_numpy(in_q), by_q, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(torch.from_numpy(in_h), by_h, rtol=1e-2, atol=1e-2)


def test_the_decoder_that_is_written_out_is_the_models():
    decoder, z = Decoder(Draw(6, dtype=torch.float32), 8, 0.1), torch.randn(2, 3)
    torch.testing.assert_close(decoder.mean(z.double()).float(), decoder.model.decode(z))
