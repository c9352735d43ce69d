"""When training refines: the rule that decides, what is refused, and the loss before it begins."""

import pytest
from torch import nn

from savi.errors import InputError, within
from savi.inference.refinement import SCARCE, Refinement, WhereScarce
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


def test_always_and_from_a_step():
    always, later = refinement("always"), refinement(7)
    assert [always.refines(step) for step in (0, 6, 7)] == [True, True, True]
    assert [later.refines(step) for step in (0, 6, 7, 8)] == [False, False, True, True]
    assert refinement("7").first == 7
    values, made = inference()
    assert Refinement.of(values, made).first == 0  # a config of a version without it


@pytest.mark.parametrize(
    ("examples", "refines"), [(1, True), (SCARCE, True), (SCARCE + 1, False), (None, False)]
)
def test_auto_refines_where_examples_are_few(examples, refines):
    made = refinement("auto")
    assert isinstance(made, WhereScarce)
    made.decide(examples)
    assert [made.refines(step) for step in (0, 1, 10_000)] == [refines] * 3
    resumed = WhereScarce()
    resumed.load_state_dict(made.state_dict())
    assert resumed.refines(5) == refines


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
