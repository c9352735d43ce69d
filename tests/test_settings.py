"""Bounds beside the fields, and errors in the words of whoever made the mistake."""

from dataclasses import dataclass, field

import pytest
import torch

import savi
from savi.errors import CombinationError, Conflict, InputError, SettingError, refuse, within
from savi.gradients import Checkpointed, Implicit, Reversible, Truncated, Unrolled
from savi.inner.objective import Traits
from savi.inner.optimizers import LBFGS, Adam, GradientDescent
from savi.linear import ConjugateGradients
from savi.settings import Checked, check_settings, positive, setting


@dataclass
class Part:
    size: float = positive(1.0)


@dataclass
class Whole(Checked):
    count: int = setting(1, at_least=1)
    share: float | None = setting(None, at_least=0, below=1)
    word: str = setting("a", one_of=("b", "a"))
    either: int | str = setting("a", at_least=1, one_of=("a", "b"))
    part: Part = field(default_factory=Part)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"count": 0}, "count is 0: set it to 1 or more"),
        ({"count": 1.5}, "count is 1.5: set it to a whole number"),
        ({"count": True}, "count is True: set it to a whole number"),
        ({"share": 1.0}, "share is 1.0: set it below 1"),
        ({"share": float("nan")}, "share is nan: set it to 0 or more"),
        ({"word": "c"}, "unknown word 'c': choose one of a, b"),
        ({"either": 0}, "either is 0: set it to 1 or more"),
        ({"either": "c"}, "unknown either 'c': choose one of a, b, a number"),
        ({"part": {"size": 0.0}}, "part.size is 0.0: set it above 0"),
        ({"part": {"size": float("inf")}}, "part.size is inf: set it to a finite number"),
    ],
)
def test_a_value_outside_its_bounds(values, sentence):
    with pytest.raises(SettingError) as error:
        check_settings(Whole, values)
    assert str(error.value) == sentence
    if "part" not in values:
        with pytest.raises(SettingError) as error:
            Whole(**values)
        assert str(error.value) == sentence


def test_what_is_within_or_not_given_passes():
    Whole(count=3, share=0.5, word="b", either=2)
    Whole(either="b")
    check_settings(Whole, {"unknown": 3, "share": None, "part": {}})


def test_a_config_names_its_groups():
    with pytest.raises(InputError, match=r"^a\.b\.rtol is -1: set it above 0$"), within("a.b"):
        ConjugateGradients(rtol=-1)
    with (
        pytest.raises(InputError, match=r"^unknown gradient\.solver 'x': choose one of cg, "),
        within("gradient"),
    ):
        Implicit(solver="x")


@pytest.mark.parametrize(
    ("backend", "optimizer", "called", "configured"),
    [
        (
            Reversible(),
            Adam(),
            "Reversible with Adam: only steps with a momentum above 0 can be undone, so give "
            "optimizer=GradientDescent() or Momentum(), or gradient=Unrolled()",
            "gradient 'reversible' with inner.optimizer 'adam': only steps with a momentum above 0 "
            "can be undone, so set inner.optimizer to gd or momentum, or gradient=unrolled",
        ),
        (
            Reversible(),
            GradientDescent(),
            "Reversible with momentum 0: a step without momentum forgets where it came from, so "
            "give a momentum above 0 (0.9, say), or gradient=Checkpointed()",
            "gradient 'reversible' with inner.momentum 0: a step without momentum forgets where it "
            "came from, so set inner.momentum above 0 (0.9, say), or gradient=checkpointed",
        ),
        (
            Truncated(),
            LBFGS(),
            "LBFGS with an objective that is redrawn at every step: gradients under different "
            "noise do not show how the objective bends, so give optimizer=LevenbergMarquardt()",
            "inner.optimizer 'lbfgs' with inner.noise 'fresh': gradients under different noise do "
            "not show how the objective bends, so set inner.noise=crn or "
            "inner.optimizer=levenberg_marquardt",
        ),
    ],
)
def test_a_combination_is_refused_in_the_words_of_who_made_it(
    backend, optimizer, called, configured
):
    def check():
        problem = Traits(stochastic=isinstance(optimizer, LBFGS), has_fisher=True)
        optimizer.check(problem)
        backend.check(optimizer, problem, compiled=False)

    with pytest.raises(CombinationError) as error:
        check()
    assert str(error.value) == called
    with pytest.raises(InputError) as error, within("inner"):
        check()
    assert str(error.value) == configured


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: ConjugateGradients(rtol=-1), "rtol is -1: set it above 0"),
        (lambda: Checkpointed(every=0), "every is 0: set it to 1 or more"),
        (lambda: Checkpointed(every="x"), "unknown every 'x': choose one of sqrt, step, a number"),
        (lambda: Truncated(steps=2.5), "steps is 2.5: set it to a whole number"),
        (lambda: GradientDescent(lr=-1), "lr is -1: set it above 0"),
        (
            lambda: savi.minimize(
                lambda y: y.square().sum(-1), torch.ones(1, 1), optimizer=GradientDescent(),
                gradient=Unrolled(), max_steps=-1,
            ),
            "max_steps is -1: set it to 0 or more",
        ),
    ],
)  # fmt: skip
def test_a_call_names_its_arguments(call, sentence):
    with pytest.raises(InputError) as error:
        call()
    assert str(error.value) == sentence


def test_the_first_conflict_is_told():
    conflicts = [Conflict(False, "a", "b"), Conflict(True, "c", "d", "which is late")]
    with pytest.raises(InputError, match=r"^x with c, which is late: set d, or e$"):
        refuse("x", conflicts, otherwise="e")
    refuse("x", conflicts[:1])
