"""What scripts/examples/root.py shows."""

import runpy
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "scripts" / "examples" / "root.py"


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(SCRIPT))


def test_derivatives_of_keplers_equation(example):
    errors = example["kepler_errors"](orbits=50)
    assert len(errors) == 3
    assert max(errors.values()) < 1e-12


def test_derivatives_of_the_nearest_point(example):
    by_theorem, by_differences = example["ellipse"]()
    torch.testing.assert_close(by_theorem, by_differences, atol=1e-4, rtol=1e-4)


def test_each_broken_condition_is_told(example):
    holds, *broken = example["broken_conditions"]()
    assert not holds[1].failed.any()
    words = ("does not solve", "singular", "kink", "multiplier of 0", "curvature")
    for (_, certificate), word in zip(broken, words, strict=True):
        assert certificate.failed.all()
        assert any(word in reason for reason in certificate.reasons)


def test_it_prints_all_of_it(example, capsys):
    example["main"]()
    shown = capsys.readouterr().out
    assert "Kepler" in shown
    assert "the certificate" in shown
