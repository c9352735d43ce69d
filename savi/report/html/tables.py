"""The table of runs, which says what became of each, and the table of settings."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, NamedTuple

from savi.report.best import ELBO
from savi.report.folders import Found
from savi.report.html.words import figure, interval
from savi.report.metrics import Metric
from savi.report.runs import STATES, Run
from savi.report.settings import Comparison, Summary, setting_label, summarise
from savi.report.table import described, full_label, position


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
        value = elbo if elbo is not None and math.isfinite(elbo) else None
        row = {"run": run, "setting": label, "number": number, "seed": seed_words(run)}
        rows.append(row | {"elbo": "" if elbo is None else figure(ELBO, elbo), "value": value})
    return rows


def setting_words(run: Run, comparison: Comparison) -> tuple[int | None, str]:
    """Number and label of a run's setting; of one that left nothing, by its overrides."""
    labels = [setting.label for setting in comparison.settings]
    number = comparison.setting_of(run)
    if number is not None:
        return number, labels[number]
    words = dict(word.split("=", 1) for word in run.overrides if "=" in word)
    known = all(key in words for key in comparison.swept)
    keys = comparison.swept if known else [key for key in words if key != "seed"]
    label = setting_label(words, keys) if words else ""
    return (labels.index(label) if label in labels else None), label


def seed_words(run: Run) -> str:
    """A run's seed by its config, or by its overrides; empty if neither tells."""
    seeds = [word.removeprefix("seed=") for word in run.overrides if word.startswith("seed=")]
    return str(run.config.get("seed", seeds[0] if seeds else ""))


SHOWN = (
    "test/elbo", "test/nll", "test/gap/inference", "test/gap/amortization",
    "test/gap/approximation", "test/active_units", "cost/step_seconds",
)  # fmt: skip
"""Columns that are shown from the start; the others can be chosen."""


class Cell(NamedTuple):
    """Mean, half width of the interval and what else there is to say; ``value`` sorts."""

    mean: str
    interval: str
    value: float | None
    note: str
    best: bool


class Column(NamedTuple):
    """A metric with a cell for every setting, or None where no run has it."""

    name: str
    label: str
    metric: Metric
    shown: bool
    cells: list[Cell | None]


def settings_table(comparison: Comparison) -> list[Column]:
    """A column for every metric of any run, in the order of the closing table."""
    runs = [run for setting in comparison.settings for run in setting.runs]
    ordered = sorted({name for run in runs for name in run.metrics}, key=position)
    shown = [name for name in ordered if name in SHOWN] or ordered[:6]
    return [_column(name, comparison, name in shown) for name in ordered]


def _column(name: str, comparison: Comparison, shown: bool) -> Column:
    metric = described(name)
    values = [setting.figures(name) for setting in comparison.settings]
    summaries = [summarise(of_setting) if of_setting else None for of_setting in values]
    best = _best([summary.mean for summary in summaries if summary], metric.better)
    cells = [
        _cell(name, summary, len(setting.runs), summary.mean == best) if summary else None
        for summary, setting in zip(summaries, comparison.settings, strict=True)
    ]
    return Column(name, full_label(name), metric, shown, cells)


def _best(means: list[float], better: str | None) -> float | None:
    """The best mean, if there are several to choose from and a direction."""
    finite = [mean for mean in means if math.isfinite(mean)]
    if better is None or len(finite) < 2:
        return None
    return max(finite) if better == "higher" else min(finite)


def _cell(name: str, summary: Summary, runs: int, best: bool) -> Cell:
    note = f"n = {summary.n}" if summary.n != runs else ""
    if summary.omitted:
        note = f"n = {summary.n}, {summary.omitted} not finite"
    value = summary.mean if math.isfinite(summary.mean) else None
    return Cell(figure(name, summary.mean), interval(name, summary), value, note, best)
