"""When training refines: the rule that decides, what is refused, and the loss before it begins."""

import math

import pytest
from torch import nn

from savi.errors import InputError, within
from savi.inference.refinement import LATEST, Refinement, WhenItPays
from savi.inference.semi_amortized import SemiAmortizedInference
from savi.vae.families import POSTERIORS


def inference(encoder=True, **inner):
    values = {
        "objective": "elbo", "optimizer": "natural_gradient", "lr": 1.0, "max_steps": 2,
        "test_max_steps": None, "rtol": 0.0, "atol": 0.0, "rho": 1.0, "noise": "crn", "samples": 2,
    } | inner  # fmt: skip
    network = nn.Linear(5, 4) if encoder else None
    family = POSTERIORS.build("diagonal_gaussian", {}, 2)
    return values, SemiAmortizedInference(network, family, values, {"name": "stop"})


def refinement(when, **changes):
    with within("inner"):
        values, made = inference(**changes)
        return Refinement.of(values | {"when": when}, made)


def validate(made, gain, trained, steps):
    """Validate after these steps, until refinement has begun; the gains are given by the step."""
    for step in steps:
        made.validated(step, gain(step), trained(step))
        if made.first is not None:
            return


def test_always_and_from_a_step():
    always, later = refinement("always"), refinement(7)
    assert [always.refines(step) for step in (0, 6, 7)] == [True, True, True]
    assert [later.refines(step) for step in (0, 6, 7, 8)] == [False, False, True, True]
    assert refinement("7").first == 7
    values, made = inference()
    assert Refinement.of(values, made).first == 0  # a config of a version without it


def grown(step):
    """A gain on validation examples that grows by one nat in a hundred steps."""
    return step / 100


def test_it_begins_where_new_examples_gain_twice_as_much():
    """The mean gain since t/2 is 3t/400, and has to reach twice 6."""
    made = WhenItPays()
    validate(made, grown, lambda step: 6.0, range(10, 4000, 10))
    assert made.first == 1600
    assert made.gain == pytest.approx(12.0)
    assert made.trained == 6.0
    before = WhenItPays()
    validate(before, grown, lambda step: 6.0, range(10, made.first, 10))
    assert before.first is None
    assert before.gain < 2 * before.trained


@pytest.mark.parametrize("factor", [1.0, 1.9])
def test_it_never_begins_where_they_gain_less(factor):
    made = WhenItPays()
    validate(made, lambda step: factor * grown(step), grown, range(10, 4000, 10))
    assert made.first is None


@pytest.mark.parametrize("trained", [0.0, -1.0])
def test_it_does_not_begin_where_refinement_gains_nothing_in_training(trained):
    """As with a solve that cannot yet take a step: a ratio says nothing there."""
    made = WhenItPays()
    validate(made, lambda step: 1.0, lambda step: trained, range(10, 400, 10))
    assert made.first is None


def test_it_takes_three_validations_and_then_stays():
    made = WhenItPays()
    validate(made, lambda step: 3.0, lambda step: 1.0, range(10, 100, 10))
    assert made.first == 40  # 20, 30 and 40 are the first three since half of the steps
    assert [made.refines(step) for step in (4, 39, 40, 1000)] == [False, False, True, True]
    made.validated(50, 0.0, 1e6)
    assert made.first == 40


def test_only_the_second_half_counts():
    made = WhenItPays()
    validate(made, lambda step: 0.0, lambda step: 1.0, range(100, 1100, 100))
    assert [step for step, _, _ in made.recent] == [500, 600, 700, 800, 900, 1000]


def test_it_does_not_begin_late():
    made = WhenItPays()
    for step in range(100, 10_000, 100):
        made.validated(step, 3.0 if step > LATEST else 1.0, 1.0)
    assert made.first is None
    assert made.gains[-1][0] == LATEST
    assert [made.undecided(step) for step in (0, 1, LATEST, LATEST + 1)] == [
        False,
        True,
        True,
        False,
    ]


def test_what_is_no_number_is_left_out():
    made = WhenItPays()
    for values in ((math.nan, 1.0), (1.0, math.nan), (math.inf, 1.0)):
        made.validated(10, *values)
    made.validated(0, 1.0, 1.0)  # before any step
    assert made.gains == []


def test_a_resumed_training_decides_alike():
    whole, part, resumed = WhenItPays(), WhenItPays(), WhenItPays()
    validate(whole, grown, lambda step: 6.0, range(100, 4000, 100))
    validate(part, grown, lambda step: 6.0, range(100, 800, 100))
    resumed.load_state_dict(part.state_dict())
    assert resumed.state_dict() == part.state_dict()
    validate(resumed, grown, lambda step: 6.0, range(800, 4000, 100))
    assert resumed.state_dict() == whole.state_dict()
    assert whole.first is not None


@pytest.mark.parametrize(
    ("when", "changes", "message"),
    [
        ("sometimes", {}, "inner.when is 'sometimes': set it to always, auto, or the number of a"),
        (-1, {}, "inner.when is '-1': set it to always"),
        (1.5, {}, "inner.when is '1.5': set it to always"),
        ("auto", {"encoder": False}, "inner.when 'auto' with model.encoder 'none', which has"),
        (5, {"max_steps": 0}, "inner.when '5' with inner.max_steps 0, where nothing is refined"),
        ("auto", {"test_max_steps": 0}, "inner.when 'auto' with inner.test_max_steps 0, so that"),
    ],
)
def test_what_makes_no_sense_is_refused(when, changes, message):
    with pytest.raises(InputError, match=message):
        refinement(when, **changes)
    if changes:
        assert refinement("always", **changes).first == 0
