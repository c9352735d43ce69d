"""Every system is used rightly: it solves an easy problem, and its derivative is right."""

import warnings
from dataclasses import replace

import pytest
import torch
from benchmarks.safety.judge import Outcome, judge
from benchmarks.safety.problem import CONTROL
from benchmarks.safety.systems import SYSTEMS

#: Wrong at its defaults: the derivative of one step, and a series that diverges for H > 2.
BIASED = {"torchdeq_one_step", "torchopt_neumann"}
RIGHT = sorted(set(SYSTEMS) - BIASED)


def system(name):
    pytest.importorskip(SYSTEMS[name].packages[0])
    return SYSTEMS[name]()


@pytest.fixture
def easy(problems):
    """½ ‖y − θ‖² + Σ|y| in three variables, of either sign, on a piece where λ* = θ ± 1."""
    named = {problem.name: problem for problem in problems[CONTROL]}
    return named["|y| far from its kink, torch.float64"]


@pytest.mark.parametrize("name", sorted(SYSTEMS))
def test_a_system_solves_the_problem(name, easy):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answer = system(name).answer(easy)
    expected = easy.theta - torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)
    torch.testing.assert_close(answer.value[0], expected, rtol=0, atol=1e-3)
    assert answer.gradient.shape == easy.theta.shape


@pytest.mark.parametrize("name", RIGHT)
def test_a_system_is_right_about_it(name, easy):
    verdict = judge(system(name), easy, 1e-2)
    assert (verdict.outcome, verdict.word) == (Outcome.RIGHT, "")
    assert verdict.stationarity <= easy.rtol


@pytest.mark.parametrize("name", sorted(SYSTEMS))
def test_newton_is_expressible_only_where_any_solve_is(name, problems):
    stiff = next(problem for problem in problems[CONTROL] if problem.newton)
    verdict = judge(system(name), stiff, 1e-2)
    refused = name in ("torchopt_unrolled", "torchdeq_implicit", "torchdeq_one_step")
    refused = refused or name == "higher_unrolled"
    assert (verdict.outcome is Outcome.NOT_EXPRESSIBLE) == refused


@pytest.mark.parametrize("name", ["savi_unrolled", "torchopt_unrolled", "higher_unrolled"])
def test_no_step_has_no_derivative(name, easy):
    answer = system(name).answer(replace(easy, max_steps=0))
    torch.testing.assert_close(answer.gradient, torch.zeros_like(easy.theta))
    torch.testing.assert_close(answer.value, easy.init)
