import os

import numpy as np
import pytest

from savi.errors import InputError
from savi.report.figures import learning_curves, read_metrics, save
from savi.report.figures.curves import PANELS
from savi.report.figures.style import BLUE, VERMILION
from savi.report.metrics import METRICS, parse

STEPS = np.arange(49, 5000, 50)
ELBO = 60 - 2060 * np.exp(-STEPS / 150)


def panels(figure):
    return {axes.get_title(loc="left"): axes for axes in figure.axes}


def labels(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_every_panel_speaks_of_described_metrics():
    for panel in PANELS:
        for name in panel.curves:
            assert parse(name)[1] in METRICS


def test_training_and_validation_share_a_panel():
    figure = learning_curves({"train/elbo": (STEPS, ELBO), "val/elbo": ([999, 1999], [1.0, 2.0])})
    (axes,) = figure.axes
    assert axes.get_title(loc="left") == "ELBO"
    assert labels(axes) == ["training", "validation"]
    training, validation = axes.lines
    assert (training.get_color(), validation.get_color()) == (BLUE, VERMILION)
    np.testing.assert_array_equal(training.get_xdata(), STEPS)
    np.testing.assert_array_equal(training.get_ydata(), ELBO)
    np.testing.assert_array_equal(validation.get_ydata(), [1.0, 2.0])
    assert axes.get_xlabel() == "step"


def test_colour_follows_the_role_and_not_the_order():
    (axes,) = learning_curves({"val/nll": ([1], [2.0])}).axes
    assert axes.lines[0].get_color() == VERMILION
    assert labels(axes) == ["validation"]


def test_only_what_is_there_is_drawn_and_in_order():
    metrics = {
        name: ([0, 1], [0.5, 0.6])
        for name in (
            "gradient/norm_encoder",
            "gradient/norm_decoder",
            "inner/converged",
            "train/gamma",
            "val/kl",
            "epoch",
            "test/elbo",
            "train/mine",
        )
    }
    figure = learning_curves(metrics)
    titles = ["KL from the prior", "Variance γ", "Inner problems converged", "Gradient norm"]
    assert list(panels(figure)) == titles
    assert labels(panels(figure)["Gradient norm"]) == ["encoder", "decoder"]
    assert panels(figure)["Inner problems converged"].get_legend() is None


def test_scales_and_units():
    names = ["val/kl", "train/gamma", "inner/stationarity", "inner/converged", "inner/steps"]
    drawn = panels(learning_curves({name: ([0, 1], [0.5, 0.6]) for name in names}))
    logs = {title for title, axes in drawn.items() if axes.get_yscale() == "log"}
    assert logs == {"Variance γ", "Inner stationarity, relative"}
    assert drawn["KL from the prior"].get_ylabel() == "nats"
    assert drawn["Inner steps"].get_ylabel() == ""
    low, high = drawn["Inner problems converged"].get_ylim()
    assert low < 0 < 1 < high < 1.1


def test_all_panels_span_the_same_steps():
    figure = learning_curves({"train/elbo": (STEPS, ELBO), "val/kl": ([9], [1.0])})
    first, second = figure.axes
    assert first.get_xlim() == second.get_xlim()
    assert first.get_xlim()[1] > STEPS[-1]


def test_a_steep_start_is_clipped_and_the_label_says_so():
    (axes,) = learning_curves({"train/elbo": (STEPS, ELBO)}).axes
    assert axes.get_ylabel() == "nats\n(clipped: min −1,426)"
    assert axes.get_ylim()[0] > -100


def test_values_that_cannot_be_drawn_are_counted():
    gamma = np.array([0.0, -1.0, np.nan, 0.1, 0.2])
    kl = np.array([np.inf, 1.0, 2.0, 3.0, 4.0])
    figure = learning_curves({"train/gamma": (range(5), gamma), "val/kl": (range(5), kl)})
    drawn = panels(figure)
    assert drawn["Variance γ"].get_xlabel() == "step (3 values not positive)"
    assert drawn["KL from the prior"].get_xlabel() == "step (1 value not finite)"
    line = drawn["Variance γ"].lines[0].get_ydata()
    np.testing.assert_array_equal(line, [np.nan, np.nan, np.nan, 0.1, 0.2])


def test_a_value_between_gaps_is_marked_in_a_long_curve():
    values = np.full(100, np.nan)
    values[:20], values[60] = 1.0, 2.0
    (axes,) = learning_curves({"inner/steps": (range(100), values)}).axes
    np.testing.assert_array_equal(axes.lines[0].get_markevery(), [60])


def test_a_single_point_is_marked():
    (axes,) = learning_curves({"val/elbo": ([99], [-3.0])}).axes
    np.testing.assert_array_equal(axes.lines[0].get_markevery(), [0])
    assert axes.lines[0].get_marker() == "o"


@pytest.mark.parametrize("value", [np.nan, -np.inf, 0.0])
def test_awkward_values_are_drawn_without_a_fault(value, tmp_path):
    names = [name for panel in PANELS for name in panel.curves]
    figure = learning_curves({name: ([0, 50], [value, value]) for name in names})
    assert len(figure.axes) == len(PANELS)
    assert save(figure, tmp_path / "curves.png").stat().st_size > 10_000


def test_nothing_to_draw_is_said():
    for metrics in ({}, {"epoch": ([0], [0.0])}):
        (axes,) = learning_curves(metrics).axes
        assert [text.get_text() for text in axes.texts] == ["No learning curves were recorded"]


def test_what_is_read_can_be_drawn(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,step,train/elbo,val/elbo\n0,9,-5.0,\n0,9,,-6.0\n1,19,-4.0,\n")
    (axes,) = learning_curves(read_metrics(path)).axes
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), [[9, -5], [19, -4]])
    np.testing.assert_array_equal(axes.lines[1].get_xydata(), [[9, -6]])


def test_what_is_larger_than_any_runs_is_not_read(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step\n1\n")
    os.truncate(path, 1 << 40)
    with pytest.raises(InputError, match="has more than 268,435,456 bytes"):
        read_metrics(path)
