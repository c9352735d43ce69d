"""What a study found: a line for each method, as means over seeds with their intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from savi.report.runs import Run
from savi.report.settings import Summary, summarise
from study.plan import Block

#: What the others' seconds are compared with.
BASE = "vae"
#: The columns of a table: their headings, and the figure of a run.
COLUMNS: dict[str, Callable[[Run], float]] = {
    "−log p(x) ≤": lambda run: -run.metrics.get("test/elbo", math.nan),
    "reconstruction": lambda run: -run.metrics.get("test/reconstruction", math.nan),
    "KL": lambda run: run.metrics.get("test/kl", math.nan),
    "−log p(x)": lambda run: run.metrics.get("test/nll", math.nan),
    "epochs": lambda run: _best(run)[0],
}


class Line(NamedTuple):
    """A method's figures by column, over its seeds."""

    method: str
    seeds: int
    figures: Mapping[str, Summary]


def lines(
    block: Block, runs: Mapping[str, Sequence[Run]], price: Mapping[str, float]
) -> list[Line]:
    """Of the methods that have a finished run.

    At a mark counts the bound of validation of the best epoch that ends within so many seconds.
    """
    found = []
    for method in block.methods:
        finished = [run for run in runs.get(method, ()) if run.state == "finished"]
        if not finished:
            continue
        figures = {name: summarise(map(of, finished)) for name, of in COLUMNS.items()}
        figures["VAE steps"] = summarise([price[method] / price[BASE]])
        for mark in block.marks:
            steps = mark / price[method]
            figures[f"≤, {mark:g} s"] = summarise(_bound(run, steps) for run in finished)
        found.append(Line(method, len(finished), figures))
    return found


def reference(name: str, values: Sequence[float]) -> Line:
    """Of a model that needs no run, by seed."""
    return Line(name, len(values), {"−log p(x)": summarise(values)})


def _bound(run: Run, steps: float) -> float:
    """The least −L of validation within so many steps; NaN before the first epoch's end."""
    curve = run.curves["val/elbo"]
    values = curve.values[curve.steps + 1 <= steps]
    return -float(values.max()) if len(values) else math.nan


def _best(run: Run) -> tuple[int, float]:
    """The epoch, from 1 on, with the best bound in validation, and that bound."""
    values = run.curves["val/elbo"].values
    return int(values.argmax()) + 1, float(values.max())


def markdown(block: Block, found: Sequence[Line]) -> str:
    """The table as a page shows it."""
    columns = list(found[-1].figures)
    seeds = min(line.seeds for line in found), max(line.seeds for line in found)
    said = f"{seeds[0]}" if seeds[0] == seeds[1] else f"{seeds[0]} to {seeds[1]}"
    head = [
        f"**{block.title}**, {said} seeds",
        "",
        f"| | {' | '.join(columns)} |",
        f"|---|{'---|' * len(columns)}",
    ]
    rows = []
    for line in found:
        cells = [_cell(name, line.figures.get(name)) for name in columns]
        rows.append(f"| `{line.method}` | {' | '.join(cells)} |")
    return "\n".join([*head, *rows])


def _cell(name: str, summary: Summary | None) -> str:
    if summary is None or not summary.n:
        return "—"
    if name == "VAE steps":
        return f"{summary.mean:.1f}"
    if name == "epochs":
        return f"{summary.mean:.0f}"
    width = "" if summary.half_width is None else f" ± {summary.half_width:.2f}"
    return f"{summary.mean:.2f}{width}"


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
