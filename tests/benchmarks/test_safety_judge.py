"""What counts as right, and what as a word."""

import logging
import warnings

import pytest
import torch
from benchmarks.safety.judge import Outcome, judge, relative_error
from benchmarks.safety.problem import CONTROL
from benchmarks.safety.systems import Answer, NotExpressible, System


class Note(UserWarning):
    pass


class Fake(System):
    """Answers what it is told to, and says what it is told to."""

    packages = ("savi",)
    notes = (Note,)

    def __init__(self, factor=1.0, say=lambda: None):
        self.factor, self.say = factor, say

    def answer(self, problem):
        self.say()
        answer = torch.ones(problem.theta.shape) if problem.answer is None else problem.answer
        return Answer(problem.init, (self.factor * answer).to(problem.theta))

    def solve(self, problem, theta):
        raise NotImplementedError


def fail():
    raise RuntimeError("no\nway")


def refuse():
    raise NotExpressible


WORDS = {
    "warning": lambda: warnings.warn("mind the gap", stacklevel=1),
    "output": lambda: print("mind the gap"),
    "log": lambda: logging.getLogger("some.package").warning("mind the gap"),
}
SILENCE = {
    "nothing": lambda: None,
    "deprecation": lambda: warnings.warn("old", FutureWarning, stacklevel=1),
    "note": lambda: warnings.warn("kinks", Note, stacklevel=1),
}


@pytest.fixture
def control(problems):
    return problems[CONTROL][0]


@pytest.mark.parametrize("say", WORDS.values(), ids=WORDS)
def test_a_word_is_heard(say, control, capsys):
    right, wrong = (judge(Fake(factor, say), control, 1e-2) for factor in (1.001, 1.1))
    assert right.outcome is Outcome.RIGHT
    assert wrong.outcome is Outcome.TOLD
    assert "mind the gap" in right.word
    assert wrong.error == pytest.approx(0.1, rel=1e-4)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("say", SILENCE.values(), ids=SILENCE)
def test_silence_is_silence(say, control):
    assert judge(Fake(1.0, say), control, 1e-2).word == ""
    assert judge(Fake(1.1, say), control, 1e-2).outcome is Outcome.SILENT


def test_an_exception_is_a_word(control):
    verdict = judge(Fake(say=fail), control, 1e-2)
    assert (verdict.outcome, verdict.word) == (Outcome.TOLD, "RuntimeError: no way")


def test_an_answer_that_is_not_finite_is_a_word(control):
    verdict = judge(Fake(float("nan")), control, 1e-2)
    assert (verdict.outcome, verdict.word) == (Outcome.TOLD, "the answer is not finite")


def test_a_refusal_is_neither(control):
    assert judge(Fake(say=refuse), control, 1e-2).outcome is Outcome.NOT_EXPRESSIBLE


def test_any_finite_answer_is_wrong_where_there_is_none(problems):
    verdict = judge(Fake(), problems["singular"][0], 1e-2)
    assert verdict.outcome is Outcome.SILENT
    assert verdict.error == float("inf")


def test_the_error_is_relative_whatever_the_size():
    answer = torch.tensor([3e-38, 4e-38], dtype=torch.float64)
    assert relative_error((1.5 * answer).float(), answer) == pytest.approx(0.5, rel=1e-3)
    zero = torch.zeros(2, dtype=torch.float64)
    assert relative_error(zero, zero) == 0.0
    assert relative_error(answer, zero) == float("inf")
