"""What a study found: a line for each method, as means over seeds with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from savi.report.runs import Run
from savi.report.settings import Summary, summarise
from study.plan import Block, Column

#: What the others are compared with, seed for seed, and their seconds.
BASE = "vae"
#: The columns that every table has besides its own.
DIFFERENCE, EPOCHS, PRICE = f"less `{BASE}`", "best epoch", "VAE steps"
#: Runs by their seeds.
Runs = Mapping[int, Run]


class Line(NamedTuple):
    """A method's figures by column, over its seeds."""

    method: str
    seeds: int
    figures: Mapping[str, Summary]


def lines(block: Block, runs: Mapping[str, Runs], price: Mapping[str, float]) -> list[Line]:
    """Of the methods that have a finished run.

    At a mark counts the best epoch that ends within so many seconds.
    """
    found = []
    first = block.columns[0]
    base = _finished(runs.get(BASE, {}))
    for method in block.methods:
        own = _finished(runs.get(method, {}))
        if not own:
            continue
        figures: dict[str, Summary] = {}
        for column in block.columns:
            figures[column.heading] = summarise(_value(run, column) for run in own.values())
            if column is first and method != BASE:
                figures[DIFFERENCE] = summarise(
                    _value(run, first) - _value(base[seed], first)
                    for seed, run in own.items()
                    if seed in base
                )
        figures[EPOCHS] = summarise(map(_best_epoch, own.values()))
        seconds = price.get(method, math.nan)
        figures[PRICE] = summarise([seconds / price[BASE]])
        for mark in block.marks:
            steps = mark / seconds
            figures[block.at(mark)] = summarise(
                _within(run, block.at_marks, steps) for run in own.values()
            )
        found.append(Line(method, len(own), figures))
    return found


def _finished(runs: Runs) -> Runs:
    return {seed: run for seed, run in runs.items() if run.state == "finished"}


def _value(run: Run, column: Column) -> float:
    """The figure of a run that a column shows; NaN if it has none."""
    whole = 1.0 if column.per is None else run.metrics.get(column.per, math.nan)
    return column.factor * run.metrics.get(column.metric, math.nan) / whole if whole else math.nan


def reference(name: str, block: Block, values: Sequence[float]) -> Line:
    """Of a model that needs no run: its −log p(x) by seed, in the column that shows a run's."""
    column = next(column for column in block.columns if column.metric == "test/nll")
    return Line(name, len(values), {column.heading: summarise(column.factor * v for v in values)})


def _within(run: Run, column: Column, steps: float) -> float:
    """The best value of a curve within so many steps; NaN before the first epoch's end."""
    curve = run.curves[column.metric]
    values = curve.values[curve.steps + 1 <= steps]
    return column.factor * float(values.max()) if len(values) else math.nan


def _best_epoch(run: Run) -> int:
    """The one with the best bound in validation, from 1 on."""
    return int(run.curves["val/elbo"].values.argmax()) + 1


def markdown(block: Block, found: Sequence[Line]) -> str:
    """The table as a page shows it."""
    # The VAE has no difference from itself, and is no line of every table.
    columns = [*max((line.figures for line in found), key=len)]
    seeds = min(line.seeds for line in found), max(line.seeds for line in found)
    said = f"{seeds[0]}" if seeds[0] == seeds[1] else f"{seeds[0]} to {seeds[1]}"
    head = [
        f"**{block.title}**, {said} seeds",
        "",
        f"| | {' | '.join(columns)} |",
        f"|---|{'---|' * len(columns)}",
    ]
    digits = {column.heading: column.digits for column in block.columns}
    digits |= {DIFFERENCE: block.columns[0].digits, PRICE: 1, EPOCHS: 0}
    digits |= {block.at(mark): block.at_marks.digits for mark in block.marks}
    rows = []
    for line in found:
        cells = [_cell(line.figures.get(name), digits[name]) for name in columns]
        rows.append(f"| `{line.method}` | {' | '.join(cells)} |")
    return "\n".join([*head, *rows])


def _cell(summary: Summary | None, digits: int) -> str:
    if summary is None or not summary.n:
        return "—"
    width = "" if summary.half_width is None else f" ± {summary.half_width:.{digits}f}"
    return f"{summary.mean:.{digits}f}{width}".replace("-", "−")


def flat(tables: Mapping[str, Sequence[Line]]) -> list[dict[str, object]]:
    """A row for each block, method and column, as a CSV file holds them."""
    return [
        {
            "block": block, "method": line.method, "figure": name, "mean": summary.mean,
            "half_width": summary.half_width, "seeds": summary.n,
        }
        for block, found in tables.items()
        for line in found
        for name, summary in line.figures.items()
    ]  # fmt: skip
