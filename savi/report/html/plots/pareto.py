"""What a better bound costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from savi.report.html.plots.base import Plot, colour, log_axis, numbers, symbol, text
from savi.report.runs import Run
from savi.report.settings import Comparison
from savi.report.statistics import pareto_front, summarise

VALUE = "test/elbo"


@dataclass(frozen=True)
class Cost:
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
    points, means = [], []
    for number, setting in enumerate(comparison.settings):
        pairs = np.array([[cost.of(run), run.metrics.get(VALUE, math.nan)] for run in setting.runs])
        pairs = pairs[np.isfinite(pairs).all(axis=1)]
        if not len(pairs):
            continue
        if len(pairs) > 1:
            points.append(_runs(pairs, number))
        means.append((number, setting.label, pairs.mean(axis=0), summarise(pairs[:, 1]).half_width))
    if not means:
        return None
    at = np.array([mean for _, _, mean, _ in means])
    data = [_front(at), *points, *(_mean(*mean, cost.unit) for mean in means)]
    return {"data": data, "layout": _layout(cost, at)}


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


def _runs(pairs: np.ndarray, number: int) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": numbers(pairs[:, 0]),
        "y": numbers(pairs[:, 1]),
        "marker": {
            "color": colour(number),
            "symbol": symbol(number),
            "size": 6,
            "opacity": 0.4,
        },
        "meta": {"setting": number},
        "hoverinfo": "skip",
    }


def _mean(
    number: int, label: str, mean: np.ndarray, half_width: float | None, unit: str
) -> dict[str, Any]:
    interval = "" if half_width is None else f" ± {half_width:.2f}"
    return {
        "type": "scatter",
        "mode": "markers",
        "x": numbers(mean[:1]),
        "y": numbers(mean[1:]),
        "name": text(label),
        "marker": {
            "color": colour(number),
            "symbol": symbol(number),
            "size": 12,
            "line": {"color": "var(--card)", "width": 1.5},
        },
        "meta": {"setting": number},
        "hovertemplate": f"<b>%{{fullData.name}}</b><br>ELBO %{{y:,.2f}}{interval} nats<br>"
        f"%{{x:.4g}} {unit}<extra></extra>",
    }


def _layout(cost: Cost, at: np.ndarray) -> dict[str, Any]:
    costs = at[:, 0]
    wide = costs.min() > 0 and costs.max() > 8 * costs.min()
    scale = log_axis(costs) if wide else {}
    return {
        "xaxis": {"title": {"text": f"{cost.title.lower()} ({cost.unit})"}, **scale},
        "yaxis": {"title": {"text": "test ELBO (nats)"}},
        "hovermode": "closest",
    }
