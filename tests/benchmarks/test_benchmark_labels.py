"""Labels beside lines: in order, apart, and near."""

import numpy as np
import pytest
from benchmarks.lines import End, apart, label_ends
from matplotlib.figure import Figure
from matplotlib.text import Text


def test_what_is_apart_stays_where_it_is():
    assert apart([0.1, 0.4, 0.9], 0.1) == pytest.approx([0.1, 0.4, 0.9])


def test_what_is_together_is_spread_evenly_about_its_place():
    assert apart([0.5, 0.5, 0.5], 0.1) == pytest.approx([0.4, 0.5, 0.6])
    assert apart([0.1, 0.49, 0.51], 0.1) == pytest.approx([0.1, 0.45, 0.55])


@pytest.mark.parametrize("wanted", [[0.0, 0.0, 0.01], [0.95, 1.0, 1.0], [0.0, 0.02, 0.98, 1.0]])
def test_nothing_stands_out(wanted):
    places = apart(wanted, 0.2)
    assert places[0] >= 0.0
    assert places[-1] <= 1.0 + 1e-12
    assert (np.diff(places) >= 0.2 - 1e-12).all()


def test_labels_do_not_overlap_and_what_is_not_there_has_none():
    figure = Figure(figsize=(4, 3))
    axes = figure.subplots()
    axes.set_yscale("log")
    axes.set_ylim(1.0, 1e4)
    ends = [End(1.0, value, f"line {value:g}", "red") for value in (10.0, 10.1, 10.2, 5e5)]
    label_ends(axes, [*ends, End(1.0, float("nan"), "nothing", "red")], height=2.3)
    figure.canvas.draw()
    assert [text.get_text() for text in axes.texts] == ["line 10", "line 10.1", "line 10.2"]
    centres = [axes.transAxes.transform(text.xyann) for text in axes.texts]
    heights = [Text.get_window_extent(text).height for text in axes.texts]
    assert min(np.diff([y for _, y in centres])) > max(heights)
    assert all(x > axes.get_window_extent().x1 for x, _ in centres)
    label_ends(axes, [], height=2.3)
    assert len(axes.texts) == 3
