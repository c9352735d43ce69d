"""The curves of one run: a small panel for each quantity, its splits in one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from savi.report.figures.curves import PANELS
from savi.report.figures.curves import Panel as Drawn
from savi.report.figures.series import Series
from savi.report.figures.style import FEW
from savi.report.html.plots.base import Plot, axis, colour, numbers, scale_of, swatch, text, thinned
from savi.report.metrics import SPLITS, parse
from savi.report.table import described, position

SPLIT_ORDER = ("train", "val", "test")


@dataclass(frozen=True)
class Panel:
    """A plot with its heading and its legend: the words of each colour."""

    title: str
    legend: tuple[tuple[str, str], ...]
    plot: Plot


def panels(curves: Mapping[str, Series]) -> list[Panel]:
    """Every curve of a run: the panels of the learning curves, then whatever else there is."""
    known = [panel for panel in PANELS if not curves.keys().isdisjoint(panel.curves)]
    shown = {name for panel in known for name in panel.curves}
    rest = sorted((name for name in curves if name not in shown), key=position)
    others = [_panel_of(list(names)) for _, names in groupby(rest, key=lambda name: parse(name)[1])]
    return [_drawn(panel, curves) for panel in [*known, *others]]


def _panel_of(names: list[str]) -> Drawn:
    metric = described(names[0])
    by_split = {parse(name)[0]: name for name in names}
    labels = {by_split[split]: SPLITS[split] or split for split in SPLIT_ORDER if split in by_split}
    return Drawn(metric.label, labels or {names[0]: ""}, scale_of(metric))


def _drawn(panel: Drawn, curves: Mapping[str, Series]) -> Panel:
    present = {name: label for name, label in panel.curves.items() if name in curves}
    unit = described(next(iter(present))).unit
    values = [np.asarray(curves[name].values, dtype=float) for name in present]
    data = [
        _trace(number, label, curves[name])
        for number, (name, label) in enumerate(panel.curves.items())
        if name in present
    ]
    layout = {"xaxis": {"title": {"text": "step"}}, "yaxis": axis(panel.scale, values, unit)}
    legend = tuple(
        (colour(number), label)
        for number, (name, label) in enumerate(panel.curves.items())
        if name in present and label
    )
    title = panel.title.replace("$\\lambda_0$", "λ0")
    return Panel(title, legend, {"data": data, "layout": layout})


def _trace(number: int, label: str, series: Series) -> dict[str, Any]:
    kept = thinned(len(series.steps))
    finite = np.isfinite(series.values)
    return {
        "type": "scatter",
        "mode": "lines+markers" if finite.sum() <= FEW else "lines",
        "x": numbers(series.steps[kept]),
        "y": numbers(series.values[kept]),
        "name": text(label),
        "line": swatch(number),
        "marker": {"size": 5},
        "hovertemplate": "%{y:.5g} %{fullData.name}<extra></extra>",
    }
