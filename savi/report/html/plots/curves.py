"""Curves: those of one run in small panels, and one metric of many runs in one plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float

from savi.report.figures.curves import PANELS, Series
from savi.report.figures.curves import Panel as Drawn
from savi.report.figures.style import FEW
from savi.report.html.plots import base
from savi.report.metrics import SPLITS, parse
from savi.report.runs import Run
from savi.report.settings import Comparison
from savi.report.table import described, position

#: T values of one curve, or of N at the same steps.
Line: TypeAlias = Float[np.ndarray, " T"]
Lines: TypeAlias = Float[np.ndarray, "N T"]

SPLIT_ORDER = ("train", "val", "test")


class Panel(NamedTuple):
    """A plot with its heading and its legend: the words of each colour."""

    title: str
    legend: tuple[tuple[str, str], ...]
    plot: base.Plot


def panels(curves: Mapping[str, Series]) -> list[Panel]:
    """Every curve of a run: the panels of the learning curves, then whatever else there is."""
    known = [panel for panel in PANELS if not curves.keys().isdisjoint(panel.curves)]
    shown = {name for panel in known for name in panel.curves}
    rest = sorted((name for name in curves if name not in shown), key=position)
    others = [_panel_of(list(names)) for _, names in groupby(rest, key=lambda name: parse(name)[1])]
    return [_filled(panel, curves) for panel in [*known, *others]]


def _panel_of(names: list[str]) -> Drawn:
    metric = described(names[0])
    by_split = {parse(name)[0]: name for name in names}
    labels = {by_split[split]: SPLITS[split] or split for split in SPLIT_ORDER if split in by_split}
    return Drawn(metric.label, labels or {names[0]: ""}, base.scale_of(metric))


def _filled(panel: Drawn, curves: Mapping[str, Series]) -> Panel:
    present = [
        (number, label, curves[name])
        for number, (name, label) in enumerate(panel.curves.items())
        if name in curves
    ]
    unit = described(next(name for name in panel.curves if name in curves)).unit
    y = base.axis(
        panel.scale, [np.asarray(series.values, dtype=float) for *_, series in present], unit
    )
    data = [
        _trace(number, label, series)
        | {
            "mode": "lines+markers" if np.isfinite(series.values).sum() <= FEW else "lines",
            "marker": {"size": 5},
            "hovertemplate": "%{y:.5g} %{fullData.name}<extra></extra>",
        }
        for number, label, series in present
    ]
    legend = tuple((base.colour(number), label) for number, label, _ in present if label)
    title = panel.title.replace("$\\lambda_0$", "λ0")
    return Panel(
        title, legend, {"data": data, "layout": {"xaxis": base.titled("step"), "yaxis": y}}
    )


def _trace(number: int, label: str, series: Series) -> dict[str, Any]:
    """A curve in the colour of a series or a setting."""
    kept = base.thinned(len(series.steps))
    return {
        "type": "scatter",
        "mode": "lines" if len(kept) > 1 else "markers",
        "x": base.numbers(series.steps[kept]),
        "y": base.numbers(series.values[kept]),
        "name": base.text(label),
        "line": base.swatch(number),
        "marker": {"color": base.colour(number)},
        "hovertemplate": "%{y:.5g} at step %{x:,}<br>%{fullData.name}<extra></extra>",
    }


def overlaid_metrics(runs: Sequence[Run]) -> list[str]:
    """The metrics of which at least one run has a curve, in the order of tables."""
    return sorted({name for run in runs for name in run.curves}, key=position)


def run_curves(name: str, comparison: Comparison) -> base.Plot:
    """A line for every run."""
    data = [
        _trace(number, run.name, run.curves[name]) | {"meta": {"setting": number}}
        for number, setting in enumerate(comparison.settings)
        for run in setting.runs
        if name in run.curves
    ]
    return {"data": data, "layout": _layout(name, comparison)}


def mean_curves(name: str, comparison: Comparison) -> base.Plot:
    """The mean over seeds of every setting, in the band from the smallest to the largest."""
    data: list[dict[str, Any]] = []
    for number, setting in enumerate(comparison.settings):
        log = [run.curves[name] for run in setting.runs if name in run.curves]
        if not log:
            continue
        steps, values = on_common_steps(log)
        if len(log) > 1:
            data.append(_band(steps, values, number))
        mean = Series(steps, _over_seeds(np.nanmean, values))
        line = _trace(number, f"{setting.label}, mean of {len(log)}", mean)
        data.append(line | {"meta": {"setting": number}})
    return {"data": data, "layout": _layout(name, comparison)}


def on_common_steps(log: Sequence[Series]) -> tuple[Line, Lines]:
    """Curves at the steps of all of them: linear in between, nan beyond a curve's ends."""
    steps = np.unique(np.concatenate([series.steps for series in log])).astype(float)
    steps = steps[base.thinned(len(steps))]
    return steps, np.stack([_interpolated(steps, series) for series in log])


def _interpolated(steps: Line, series: Series) -> Line:
    finite = np.isfinite(series.values)
    if not finite.any():
        return np.full(len(steps), np.nan)
    known, values = series.steps[finite], series.values[finite]
    return np.interp(steps, known, values, left=np.nan, right=np.nan)


def _over_seeds(reduce: Any, values: Lines) -> Line:
    """Reduce over the seeds that have a value; nan where none has."""
    result = np.full(values.shape[1], np.nan)
    known = np.isfinite(values).any(axis=0)
    result[known] = reduce(values[:, known], axis=0)
    return result


def _band(steps: Line, values: Lines, number: int) -> dict[str, Any]:
    """The area between the smallest and the largest value, as one closed outline."""
    low, high = _over_seeds(np.nanmin, values), _over_seeds(np.nanmax, values)
    known = np.isfinite(low)
    return {
        "type": "scatter",
        "mode": "lines",
        "x": base.numbers(np.concatenate([steps[known], steps[known][::-1]])),
        "y": base.numbers(np.concatenate([low[known], high[known][::-1]])),
        "fill": "toself",
        "fillcolor": base.colour(number),
        "opacity": 0.15,
        "line": {"width": 0, "color": base.colour(number)},
        "meta": {"setting": number},
        "hoverinfo": "skip",
    }


def _layout(name: str, comparison: Comparison) -> dict[str, Any]:
    metric = described(name)
    curves = [
        np.asarray(run.curves[name].values, dtype=float)
        for setting in comparison.settings
        for run in setting.runs
        if name in run.curves
    ]
    return {
        "xaxis": base.titled("step"),
        "yaxis": base.axis(base.scale_of(metric), curves, metric.unit),
        "hovermode": "closest",
    }
