"""The numbers that ``scripts/examples/optnet.py`` shows."""

import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "examples" / "optnet.py"


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(SCRIPT))


def test_the_jacobian_is_that_of_finite_differences(example):
    errors = example["jacobian_error"]()
    assert set(errors) == set("QqAbGh")
    assert max(errors.values()) < 1e-7


def test_a_batch_with_failures(example):
    names, zero, message = example["failures"]()
    assert names == ["solved", "infeasible", "unbounded", "non convex"]
    assert zero == [False, True, True, True]
    assert message.startswith("3 of 4 quadratic programs have no solution here")


def test_the_hidden_constraints_are_learned(example):
    losses, G = example["learn"](steps=150, examples=48)
    assert losses[0] > 0.1
    assert losses[-1] < 1e-6
    hidden = example["vertices"](example["hidden_polygon"]())
    assert (example["vertices"](G) - hidden).abs().max() < 1e-2
    assert (example["vertices"](example["regular_polygon"](5, 0.1)) - hidden).norm() > 0.1
