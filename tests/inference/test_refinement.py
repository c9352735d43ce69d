"""When training refines: the rule that decides, what is refused, and the loss before it begins."""

import math

import pytest
from torch import nn

from savi.errors import InputError, within
from savi.inference.refinement import TIMED, Refinement, WhenItPays
from savi.inference.semi_amortized import SemiAmortizedInference
from savi.vae.families import POSTERIORS

PRICE = 2.0


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


def undecided():
    made = WhenItPays()
    for step in range(1, 2 * TIMED + 1):
        assert made.is_timed(step)
        made.took(step, PRICE if made.refines(step) else 1.0)
    assert made.price == PRICE
    assert not made.is_timed(0)
    assert not made.is_timed(2 * TIMED + 1)
    return made


def validate(made, bound, gain, steps):
    """Validate after these steps, until refinement has begun; the bounds are given by the step."""
    for step in steps:
        made.validated(step, bound(step), gain(step))
        if made.first is not None:
            return


def test_always_and_from_a_step():
    always, later = refinement("always"), refinement(7)
    assert [always.refines(step) for step in (0, 6, 7)] == [True, True, True]
    assert [later.refines(step) for step in (0, 6, 7, 8)] == [False, False, True, True]
    assert refinement("7").first == 7
    values, made = inference()
    assert Refinement.of(values, made).first == 0  # a config of a version without it


def test_the_price_is_the_ratio_of_the_first_steps():
    made = undecided()
    refined = [step for step in range(100) if made.refines(step)]
    assert refined == [2, 4, 6, 8]
    assert len(made.seconds[True]) == len(made.seconds[False]) == TIMED
    assert WhenItPays().price is None


@pytest.mark.parametrize("slope", [0.0, 20.0, -5.0])
def test_what_else_the_seconds_would_buy(slope):
    """Along a bound of a + s log t, c times more steps add s log c exactly."""
    made = undecided()
    validate(made, lambda t: 3.0 + slope * math.log(t), lambda t: -math.inf, [100])
    assert made.validations == []  # not a number
    validate(made, lambda t: 3.0 + slope * math.log(t), lambda t: -99.0, range(100, 1000, 100))
    more = slope * math.log(PRICE * 900) - slope * math.log(900)
    assert made.otherwise == pytest.approx(more, abs=1e-9)
    assert made.first is None


def test_it_begins_where_the_gain_is_more():
    def bound(step):
        """Rises as 40 log t, and from step 1,000 on falls."""
        return 40 * math.log(min(step, 1000)) - 0.01 * max(0, step - 1000)

    steps = range(100, 4000, 100)
    made = undecided()
    validate(made, bound, lambda step: 20.0, steps)
    assert 1000 < made.first < 2000
    assert made.gain > made.otherwise
    before = undecided()
    validate(before, bound, lambda step: 20.0, range(100, made.first, 100))
    assert before.first is None
    assert before.gain < before.otherwise

    early, never = undecided(), undecided()
    validate(early, bound, lambda step: 30.0, steps)
    assert early.first == 400  # 40 log 2 = 27.7; the first three since half of the steps
    validate(never, lambda step: 40 * math.log(step), lambda step: 20.0, steps)
    assert never.first is None


def test_it_stays_once_it_has_begun():
    made = undecided()
    validate(made, lambda step: 0.0, lambda step: 1.0, range(10, 100, 10))
    assert made.first == 40
    assert [made.refines(step) for step in (4, 39, 40, 1000)] == [False, False, True, True]
    made.validated(50, 1e6, 0.0)
    assert made.first == 40
    assert not made.is_timed(5)


def test_only_the_second_half_counts():
    made = undecided()
    validate(made, lambda t: 100 * math.log(t), lambda t: 0.0, range(100, 1100, 100))
    assert [step for step, _, _ in made.recent] == [500, 600, 700, 800, 900, 1000]


def test_without_a_price_nothing_is_decided():
    made = WhenItPays()
    validate(made, lambda t: 0.0, lambda t: 1.0, range(10, 100, 10))
    assert made.first is None
    assert made.otherwise is None


def test_a_resumed_training_decides_alike():
    def bound(step):
        return 40 * math.log(min(step, 1000))

    whole, part = undecided(), undecided()
    validate(whole, bound, lambda step: 20.0, range(100, 4000, 100))
    validate(part, bound, lambda step: 20.0, range(100, 800, 100))
    resumed = WhenItPays()
    resumed.load_state_dict(part.state_dict())
    assert resumed.state_dict() == part.state_dict()
    validate(resumed, bound, lambda step: 20.0, range(800, 4000, 100))
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
