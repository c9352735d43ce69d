import numpy as np
import pytest
from matplotlib.figure import Figure

from savi.report.figures.style import clip, log_scale, omission, short, view

RISE = 60 - 2060 * np.exp(-np.arange(1, 101) / 4)


def test_view_cuts_off_a_steep_start_and_keeps_the_rest():
    low, high = view([RISE])
    assert RISE.min() < -1500 < 0 < low < 60
    assert high > RISE.max()
    assert np.mean((low <= RISE) & (high >= RISE)) > 0.7


@pytest.mark.parametrize(
    "values",
    [
        np.linspace(-2000, 60, 50),
        np.sin(np.arange(50.0)),
        np.array([3.0]),
        np.zeros(9),
        np.array([np.nan, np.inf]),
        np.array([]),
        np.array([0.0] * 9 + [1.0]),
    ],
    ids=["linear", "wave", "one", "constant", "nothing finite", "empty", "step"],
)
def test_view_shows_everything_where_clipping_would_not_help(values):
    assert view([values]) is None


def test_view_grants_every_curve_its_own_range():
    low, high = view([RISE, np.full(9, -300.0)])
    assert low < -300
    assert high > 60


def test_view_ignores_values_that_are_not_finite():
    spoilt = np.concatenate([RISE, [np.nan, np.inf, -np.inf]])
    assert view([spoilt]) == view([RISE])


def test_clip_says_in_the_label_which_ends_are_off_the_axis():
    axes = Figure().subplots()
    curve = np.concatenate([[-2000.0], np.linspace(50, 60, 50), [1e7]])
    clip(axes, [curve], "nats")
    assert axes.get_ylabel() == "nats\n(clipped: min −2,000, max 1e7)"
    low, high = axes.get_ylim()
    assert -2000 < low < 50
    assert 60 < high < 1e7


def test_clip_leaves_an_ordinary_axis_alone():
    axes = Figure().subplots()
    axes.plot([0.0, 1.0, 2.0])
    before = axes.get_ylim()
    clip(axes, [np.arange(3.0)], "nats")
    assert axes.get_ylim() == before
    assert axes.get_ylabel() == "nats"


def test_log_scale():
    axes = Figure().subplots()
    axes.plot([1e-3, 1.0])
    log_scale(axes)
    assert axes.get_yscale() == "log"


@pytest.mark.parametrize(
    ("value", "text"),
    [(-1463.7, "−1,464"), (0.01234, "0.0123"), (-1e7, "−1e7"), (2e-5, "2e−5"), (3.0, "3")],
)
def test_short(value, text):
    assert short(value) == text


def test_omission_counts_in_words():
    assert omission(0) == ""
    assert omission(1) == " (1 value not finite)"
    assert omission(2000, "positive") == " (2,000 values not positive)"
