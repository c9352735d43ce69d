"""The table of runs, which says what became of each, and the table of settings."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

from savi.report.folders import Found
from savi.report.html.words import duration, figure, interval, moment
from savi.report.metrics import Metric
from savi.report.runs import STATES, Run
from savi.report.settings import Comparison, Summary, setting_label, summarise
from savi.report.table import described, full_label, position

ELBO = "test/elbo"


def counts(found: Found) -> dict[str, int]:
    """How many runs are in each state that occurs, the finished ones first."""
    states = Counter(run.state for run in found.runs)
    states["missing"] += found.unstarted
    return {state: states[state] for state in reversed(STATES) if states[state]}


def status_rows(found: Found, comparison: Comparison) -> list[dict[str, Any]]:
    """A row for every run; those that ask for attention first."""
    rows = []
    for run in sorted(found.runs, key=lambda run: STATES.index(run.state)):
        number, label = setting_words(run, comparison)
        elbo = run.metrics.get(ELBO)
        rows.append(
            {
                "run": run,
                "setting": label,
                "number": number,
                "seed": seed_words(run),
                "elbo": "" if elbo is None else figure(ELBO, elbo),
                "elbo_value": elbo if elbo is not None and math.isfinite(elbo) else None,
                "started": moment(run.started),
                "took": duration(run.duration),
                "seconds": run.duration.total_seconds() if run.duration else None,
            }
        )
    return rows


def setting_words(run: Run, comparison: Comparison) -> tuple[int | None, str]:
    """Number and label of a run's setting; of one that left nothing, by its overrides."""
    number = comparison.setting_of(run)
    if number is None:
        words = dict(word.split("=", 1) for word in run.overrides if "=" in word)
        known = all(key in words for key in comparison.swept)
        keys = comparison.swept if known else [key for key in words if key != "seed"]
        label = setting_label(words, keys) if words else ""
        labels = [setting.label for setting in comparison.settings]
        return (labels.index(label) if label in labels else None), label
    return number, comparison.settings[number].label


def seed_words(run: Run) -> str:
    """A run's seed by its config, or by its overrides; empty if neither tells."""
    seeds = [word.removeprefix("seed=") for word in run.overrides if word.startswith("seed=")]
    return str(run.config.get("seed", seeds[0] if seeds else ""))


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
