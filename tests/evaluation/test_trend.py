"""Whether a curve still rises at its end."""

import math

import numpy as np
import pytest

from savi.evaluation.trend import CONFIDENCE, still_rising


def approach(epochs: int, time: float, noise: float = 0.0) -> list[float]:
    """The exponential approach of a plateau, 100 nats up."""
    drawn = noise * np.random.default_rng(0).normal(size=epochs)
    return list(-100.0 * np.exp(-np.arange(epochs) / time) + drawn)


@pytest.mark.parametrize("epochs", [4, 5, 10, 40, 400])
def test_a_training_that_ended_early_still_rises(epochs: int):
    assert "still rose by" in still_rising(approach(epochs, epochs / 2))
    assert "still rose by" in still_rising(approach(epochs, 10 * epochs))


@pytest.mark.parametrize("epochs", [16, 40, 400])
def test_a_plateau_does_not_rise(epochs: int):
    assert still_rising(approach(epochs, epochs / 8)) == ""
    assert still_rising(approach(epochs, epochs / 8, noise=0.01)) == ""


@pytest.mark.parametrize("epochs", [8, 16, 40])
def test_noise_rises_no_more_often_than_the_confidence_says(epochs: int):
    drawn = np.random.default_rng(0).normal(size=(400, epochs))
    alarms = sum(still_rising(list(curve)) != "" for curve in drawn)
    assert alarms / 400 < 2 * (1 - CONFIDENCE)


def test_noise_does_not_hide_a_rise():
    assert still_rising(approach(40, 20.0, noise=0.5)) != ""


def test_the_size_of_the_rise_is_told():
    line = [2.0 * epoch for epoch in range(40)]
    assert still_rising(line) == "val/elbo still rose by 18 nats over its last 10 values"


def test_a_transient_at_the_start_hides_no_rise():
    assert still_rising([-1e6, -1e4, *approach(38, 19.0)]) != ""


def test_what_falls_or_stands_still_does_not_rise():
    assert still_rising([-v for v in approach(40, 20.0)]) == ""
    assert still_rising([5.0] * 20) == ""
    assert still_rising([1e-3 * epoch for epoch in range(20)]) == ""


def test_few_values_tell_nothing():
    assert still_rising([]) == ""
    assert still_rising([math.nan]) == ""
    assert "measured only once" in still_rising([3.0])
    assert "measured only 3 times" in still_rising([1.0, math.nan, 2.0, 3.0])
