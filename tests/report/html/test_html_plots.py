import numpy as np
import plotly.graph_objects as go
import pytest
from run_folders import METRICS, write_run, write_sweep

from savi.report.figures.curves import Series
from savi.report.folders import find_runs
from savi.report.html.plots.base import MOST_POINTS, axis, numbers, thinned
from savi.report.html.plots.comparison import COSTS, least_width, parallel_plot, pareto_plot
from savi.report.html.plots.curves import mean_curves, on_common_steps, panels, run_curves
from savi.report.html.plots.latents import latent_plots
from savi.report.runs import Verdict, read_run
from savi.report.settings import compare


def valid(plot):
    """Whether plotly knows every key and accepts every value."""
    return go.Figure(plot["data"], plot["layout"])


@pytest.fixture
def sweep(tmp_path):
    runs = [run for run in find_runs([write_sweep(tmp_path / "s")]).runs if run.config]
    return runs, compare(runs)


def test_every_curve_has_a_panel_and_splits_share_one(tmp_path):
    run = read_run(write_run(tmp_path / "a"), "a")
    drawn = panels(run.curves)
    assert [panel.title for panel in drawn] == [
        "ELBO",
        "Inner stationarity, relative",
        "own/figure",
    ]
    assert [label for _, label in drawn[0].legend] == ["training", "validation"]
    assert sum(len(panel.plot["data"]) for panel in drawn) == len(run.curves)
    assert drawn[1].plot["layout"]["yaxis"]["type"] == "log"
    assert drawn[0].plot["data"][1]["y"] == [-30.25, None, 35.5]
    for panel in drawn:
        valid(panel.plot)


def test_the_legend_names_only_what_is_there():
    curves = {"gradient/norm_decoder": Series(np.array([1, 2]), np.array([1.0, 2.0]))}
    (panel,) = panels(curves)
    assert panel.legend == (("var(--series-2)", "decoder"),)
    assert panel.plot["data"][0]["line"]["color"] == "var(--series-2)"


def test_runs_and_means_are_coloured_by_setting(sweep):
    _, comparison = sweep
    lines = run_curves("val/elbo", comparison)
    assert [trace["meta"]["setting"] for trace in lines["data"]] == [0, 1, 1, 1, 2, 2, 2]
    means = mean_curves("val/elbo", comparison)
    assert [trace["meta"]["setting"] for trace in means["data"]] == [0, 1, 1, 2, 2]
    assert [trace.get("fill") for trace in means["data"]] == [None, "toself", None, "toself", None]
    valid(lines)
    valid(means)


def test_curves_of_different_length_meet_at_common_steps():
    short = Series(np.array([0, 10]), np.array([0.0, 10.0]))
    long = Series(np.array([0, 5, 10, 20]), np.array([1.0, np.nan, 11.0, 21.0]))
    steps, values = on_common_steps([short, long])
    assert steps.tolist() == [0, 5, 10, 20]
    np.testing.assert_allclose(values, [[0, 5, 10, np.nan], [1, 6, 11, 21]])


def test_the_front_joins_the_settings_that_nothing_dominates(sweep):
    _, comparison = sweep
    plot = pareto_plot(COSTS[0], comparison)
    front = plot["data"][0]
    # Each ρ of the sweep is better and slower than the one before.
    assert front["x"] == [0.01, 0.02, 0.03]
    assert front["y"] == sorted(front["y"])
    assert len([trace for trace in plot["data"] if trace["mode"] == "markers"]) == 5
    valid(plot)


def test_without_a_cost_there_is_no_pareto_plot(tmp_path):
    run = read_run(write_run(tmp_path / "a", metrics={"test/elbo": 1.0}), "a")
    comparison = compare([run])
    assert [pareto_plot(cost, comparison) is None for cost in COSTS] == [True, False, True]


def test_parallel_axes_are_logarithmic_over_a_wide_range(sweep):
    runs, comparison = sweep
    plot = parallel_plot(runs, comparison)
    rho, elbo = plot["data"][0]["dimensions"]
    assert rho["label"] == "inner.rho"
    assert rho["ticktext"] == ["0.1", "1", "100"]
    assert rho["tickvals"] == [-1, 0, 2]
    assert len(elbo["values"]) == len([run for run in runs if run.metrics])
    assert least_width(plot) < 390
    valid(plot)


def test_names_have_an_axis_and_one_run_has_no_parallel_plot(tmp_path):
    names = ("gd", "a-very-long-name-of-an-optimiser", None)
    runs = [
        read_run(write_run(tmp_path / f"{i}", {"inner.optimizer": name}), f"{i}")
        for i, name in enumerate(names)
    ]
    plot = parallel_plot(runs, compare(runs))
    first = plot["data"][0]["dimensions"][0]
    assert first["ticktext"] == ["a-very-long-name-of-an-…", "gd", "—"]
    assert first["values"] == [1, 0, 2]
    valid(plot)
    assert parallel_plot(runs[:1], compare(runs)) is None
    assert parallel_plot(runs, compare(runs[:1])) is None


def test_the_use_of_latents_is_drawn_if_it_was_recorded():
    verdict = Verdict("i", "pruning", "why", (0.1, 2.0), (0.0, 0.5, 1.0), (3.0, 4.0))
    drawn = latent_plots(verdict)
    assert drawn["kl-per-dimension"][1]["data"][0]["y"] == [2, 0.1]
    assert drawn["kl-per-dimension"][1]["data"][0]["customdata"] == [1, 0]
    assert drawn["sigma-histogram"][1]["data"][0]["x"] == [0.25, 0.75]
    for _, plot in drawn.values():
        valid(plot)
    assert latent_plots(Verdict("i", "pruning", "why")) == {}


def test_axes_suit_their_values():
    assert axis("log", [np.array([1e-6, 1.0])])["dtick"] == 1
    assert axis("log", [np.array([0.1, 0.5])])["dtick"] == "D2"
    assert "type" not in axis("log", [np.array([1.0, 2.0])])
    assert "type" not in axis("log", [np.array([0.0, -1.0, np.nan])])
    assert "range" in axis("linear", [np.r_[-1e4, np.arange(30.0)]], "nats")
    assert (
        axis("linear", [np.r_[-1e4, np.arange(30.0)]], "nats")["title"]["text"] == "nats, clipped"
    )
    assert axis("linear", [np.full(3, np.nan)]).get("range") is None
    assert axis("linear", [])


def test_numbers_are_short_and_long_curves_are_thinned():
    assert numbers([1.0, 0.1234567, np.nan, np.inf, 2e20]) == [1, 0.123457, None, None, 2e20]
    assert thinned(3).tolist() == [0, 1, 2]
    kept = thinned(10_000)
    assert len(kept) == MOST_POINTS
    assert (kept[0], kept[-1]) == (0, 9_999)
    assert thinned(0).tolist() == []


def test_statistics_stand_in_the_metrics_that_exist(sweep):
    runs, comparison = sweep
    assert set(METRICS) <= {name for run in runs for name in run.metrics}
    assert [setting.label for setting in comparison.settings] == ["rho=0.1", "rho=1", "rho=100"]
