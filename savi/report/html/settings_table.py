"""Mean and interval of every figure, by setting."""

from __future__ import annotations

import math
from dataclasses import dataclass

from savi.report.html.words import figure, interval
from savi.report.metrics import Metric
from savi.report.settings import Comparison
from savi.report.statistics import Summary, summarise
from savi.report.table import described, full_label, position

SHOWN = (
    "test/elbo",
    "test/nll",
    "test/gap/inference",
    "test/gap/amortization",
    "test/gap/approximation",
    "test/active_units",
    "cost/step_seconds",
)
"""Columns that are shown from the start; the others can be chosen."""


@dataclass(frozen=True)
class Cell:
    """Mean, half width of the interval and what else there is to say; ``value`` sorts."""

    mean: str
    interval: str
    value: float | None
    note: str
    best: bool


@dataclass(frozen=True)
class Column:
    """A metric with a cell for every setting, or None where no run has it."""

    name: str
    label: str
    metric: Metric
    shown: bool
    cells: tuple[Cell | None, ...]


def settings_table(comparison: Comparison) -> list[Column]:
    """A column for every metric of any run, in the order of the closing table."""
    names = {
        name for setting in comparison.settings for run in setting.runs for name in run.metrics
    }
    ordered = sorted(names, key=position)
    shown = [name for name in ordered if name in SHOWN] or ordered[:6]
    return [_column(name, comparison, name in shown) for name in ordered]


def _column(name: str, comparison: Comparison, shown: bool) -> Column:
    metric = described(name)
    runs = [setting.figures(name) for setting in comparison.settings]
    summaries = [summarise(values) if values else None for values in runs]
    best = _best(summaries, metric.better)
    cells = [
        _cell(name, summary, len(setting.runs), number in best) if summary else None
        for number, (summary, setting) in enumerate(
            zip(summaries, comparison.settings, strict=True)
        )
    ]
    return Column(name, full_label(name), metric, shown, tuple(cells))


def _best(summaries: list[Summary | None], better: str | None) -> set[int]:
    """The settings with the best mean, if there are several to choose from and a direction."""
    means = {
        number: summary.mean
        for number, summary in enumerate(summaries)
        if summary and math.isfinite(summary.mean)
    }
    if better is None or len(means) < 2:
        return set()
    best = max(means.values()) if better == "higher" else min(means.values())
    return {number for number, mean in means.items() if mean == best}


def _cell(name: str, summary: Summary, runs: int, best: bool) -> Cell:
    note = f"n = {summary.n}" if summary.n != runs else ""
    if summary.omitted:
        note = f"n = {summary.n}, {summary.omitted} not finite"
    value = summary.mean if math.isfinite(summary.mean) else None
    return Cell(figure(name, summary.mean), interval(name, summary), value, note, best)
