"""What the swept settings lead to: the bound against its cost, and on parallel axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from savi.report.html.plots.base import Plot, colour, log_axis, numbers, symbol, text, titled
from savi.report.runs import Run
from savi.report.settings import ABSENT, Comparison, pareto_front, show, side_by_side, summarise

VALUE = "test/elbo"


class Cost(NamedTuple):
    """Something a run spends: its title, its unit and how to read it."""

    title: str
    unit: str
    of: Callable[[Run], float]


def _seconds(run: Run) -> float:
    return run.duration.total_seconds() if run.duration else math.nan


def _metric(name: str) -> Callable[[Run], float]:
    return lambda run: run.metrics.get(name, math.nan)


COSTS = (
    Cost("Time per training step", "s", _metric("cost/step_seconds")),
    Cost("Time of the whole run", "s", _seconds),
    Cost("Peak memory", "MB", _metric("cost/peak_memory_mb")),
)


def pareto_plot(cost: Cost, comparison: Comparison) -> Plot | None:
    """The test ELBO against a cost; None if no run has both.

    A setting is a point at the means over its seeds, its runs are small points, and a line joins
    the settings on the front.
    """
    at, points, means = [], [], []
    for number, setting in enumerate(comparison.settings):
        pairs = np.array([[cost.of(run), run.metrics.get(VALUE, math.nan)] for run in setting.runs])
        pairs = pairs[np.isfinite(pairs).all(axis=1)]
        if not len(pairs):
            continue
        if len(pairs) > 1:
            points.append(_points(pairs, number, size=6, opacity=0.4) | {"hoverinfo": "skip"})
        at.append(pairs.mean(axis=0))
        means.append(_mean(pairs, number, setting.label, cost.unit))
    if not means:
        return None
    costs = np.array(at)[:, 0]
    wide = costs.min() > 0 and costs.max() > 8 * costs.min()
    x = titled(f"{cost.title.lower()} ({cost.unit})") | (log_axis(costs) if wide else {})
    layout = {"xaxis": x, "yaxis": titled("test ELBO (nats)"), "hovermode": "closest"}
    return {"data": [_front(np.array(at)), *points, *means], "layout": layout}


def _front(at: np.ndarray) -> dict[str, Any]:
    front = at[pareto_front(at[:, 0], at[:, 1])]
    front = front[np.argsort(front[:, 0])]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": numbers(front[:, 0]),
        "y": numbers(front[:, 1]),
        "line": {"shape": "hv", "color": "var(--muted)", "width": 1.5, "dash": "dot"},
        "hoverinfo": "skip",
        "name": "front",
    }


def _points(pairs: np.ndarray, number: int, **marker: Any) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": numbers(pairs[:, 0]),
        "y": numbers(pairs[:, 1]),
        "marker": {"color": colour(number), "symbol": symbol(number), **marker},
        "meta": {"setting": number},
    }


def _mean(pairs: np.ndarray, number: int, label: str, unit: str) -> dict[str, Any]:
    half_width = summarise(pairs[:, 1]).half_width
    interval = "" if half_width is None else f" ± {half_width:.2f}"
    border = {"color": "var(--card)", "width": 1.5}
    return {
        **_points(pairs.mean(axis=0, keepdims=True), number, size=12, line=border),
        "name": text(label),
        "hovertemplate": f"<b>%{{fullData.name}}</b><br>ELBO %{{y:,.2f}}{interval} nats<br>"
        f"%{{x:.4g}} {unit}<extra></extra>",
    }


LONGEST = 24
"""Characters of a name on an axis at most."""

LOG_SPREAD = 30
"""A positive key whose largest value is this many times its smallest has a log axis."""


def parallel_plot(runs: Sequence[Run], comparison: Comparison) -> Plot | None:
    """A line for every run through its swept values to its ELBO.

    None where nothing was swept or fewer than two runs have an ELBO. Numbers have an axis of
    their own scale, logarithmic over a wide range; names are put at even distances.
    """
    usable = [run for run in runs if math.isfinite(run.metrics.get(VALUE, math.nan)) and run.config]
    if len(usable) < 2 or not comparison.swept:
        return None
    elbo = numbers(run.metrics[VALUE] for run in usable)
    dimensions = [_dimension(key, side_by_side(usable)) for key in comparison.swept]
    dimensions.append({"label": "test ELBO", "values": elbo})
    colours = [[0, "var(--low)"], [0.5, "var(--middle)"], [1, "var(--high)"]]
    trace = {
        "type": "parcoords",
        "dimensions": dimensions,
        "line": {"color": elbo, "colorscale": colours},
        "labelside": "top",
        "labelfont": {"size": 12.5, "color": "var(--ink)"},
        "tickfont": {"size": 12, "color": "var(--ink)"},
        # The ends of the axes are labelled by their ticks.
        "rangefont": {"size": 1, "color": "rgba(0,0,0,0)"},
    }
    # The first axis has its labels on its left, and the outermost headings are centred.
    widest = max(map(len, dimensions[0].get("ticktext", ())), default=0)
    margin = {"l": max(70, 8 * widest + 16), "r": 60, "t": 44, "b": 20}
    return {"data": [trace], "layout": {"margin": margin}}


def least_width(plot: Plot) -> int:
    """Pixels below which the headings of neighbouring axes would touch."""
    labels = [dimension["label"] for dimension in plot["data"][0]["dimensions"]]
    margin = plot["layout"]["margin"]
    return margin["l"] + margin["r"] + sum(max(110, 8 * len(label) + 24) for label in labels[:-1])


def _dimension(key: str, configs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    values = [config.get(key) for config in configs]
    label = text(key)
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return _numeric(label, np.array(values, dtype=float))
    names = sorted({show(value) for value in values}, key=lambda name: (name == ABSENT, name))
    places = [names.index(show(value)) for value in values]
    # Unlike other texts of plotly.js, these are never read as tags.
    ticks = {"tickvals": list(range(len(names))), "ticktext": [_short(name) for name in names]}
    return {"label": label, "values": places, "range": [-0.3, len(names) - 0.7], **ticks}


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def _numeric(label: str, values: np.ndarray) -> dict[str, Any]:
    distinct = np.unique(values[np.isfinite(values)])
    few = {"tickvals": numbers(distinct)} if len(distinct) <= 8 else {}
    if len(distinct) and distinct[0] > 0 and distinct[-1] / distinct[0] >= LOG_SPREAD:
        low, high = np.log10(distinct[[0, -1]])
        marks = distinct if few else 10.0 ** np.arange(math.floor(low), math.ceil(high) + 1)
        ticks = {
            "tickvals": numbers(np.log10(marks)),
            "ticktext": [f"{mark:.4g}" for mark in marks],
        }
        return {"label": label, "values": numbers(np.log10(values)), **ticks}
    return {"label": label, "values": numbers(values), **few}
