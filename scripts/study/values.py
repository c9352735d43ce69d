"""The figures of a study's runs, one by one: what its tables and pictures are made from."""

from __future__ import annotations

import csv
import math
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from benchmarks.harness import write_csv

from savi.errors import InputError
from savi.report.runs import Run
from savi.runs.whole import whole
from study.plan import Block, Column

#: What the others are compared with, seed for seed, and their seconds.
BASE = "vae"
#: The figures that every block has besides its columns.
EPOCHS, PRICE = "best epoch", "VAE steps"


class Value(NamedTuple):
    """A figure of a run; of a method, and of no run, if it has no seed."""

    block: str
    method: str
    seed: int | None
    figure: str
    value: float


def run_values(name: str, block: Block, runs: Mapping[str, Mapping[int, Run]],
               price: Mapping[str, float]) -> list[Value]:  # fmt: skip
    """Of the finished runs of a block, by method and seed; those that are not finite are left out.

    At a mark counts the best epoch that ends within so many seconds of the price's steps.
    """
    found = []
    for method in block.methods:
        own = {seed: run for seed, run in runs.get(method, {}).items() if run.state == "finished"}
        seconds = price.get(method, math.nan)
        for seed, run in own.items():
            figures = {column.heading: _value(run, column) for column in block.columns}
            figures[EPOCHS] = int(run.curves["val/elbo"].values.argmax()) + 1
            for mark in block.marks:
                figures[block.at(mark)] = _within(run, block.at_marks, mark / seconds)
            found += [Value(name, method, seed, *item) for item in figures.items()]
        if own:
            found.append(Value(name, method, None, PRICE, seconds / price.get(BASE, math.nan)))
    return [value for value in found if math.isfinite(value.value)]


def reference_values(
    name: str, block: Block, reference: str, by_seed: Sequence[float]
) -> list[Value]:
    """Of a model that needs no run: its −log p(x) by seed, in the column that shows a run's."""
    column = next(column for column in block.columns if column.metric == "test/nll")
    return [
        Value(name, reference, seed, column.heading, column.factor * value)
        for seed, value in enumerate(by_seed)
    ]


def _value(run: Run, column: Column) -> float:
    """The figure of a run that a column shows; NaN if it has none."""
    if column.third is not None:
        curve = run.curves.get(column.metric)
        return math.nan if curve is None else _mean_of_third(curve.values, column)
    return column.factor * run.metrics.get(column.metric, math.nan)


def _mean_of_third(values: np.ndarray, column: Column) -> float:
    assert column.third is not None
    return column.factor * float(np.array_split(values, 3)[column.third - 1].mean())


def _within(run: Run, column: Column, steps: float) -> float:
    """The best value of a curve within so many steps; NaN before the first epoch's end."""
    curve = run.curves[column.metric]
    values = curve.values[curve.steps + 1 <= steps]
    return column.factor * float(values.max()) if len(values) else math.nan


def save_values(path: Path, values: Sequence[Value], blocks: Container[str]) -> None:
    """As CSV, a line each, in the place of the earlier ones of these blocks."""
    earlier = read_values(path) if path.exists() else []
    values = [*(value for value in earlier if value.block not in blocks), *values]
    if not values:
        return
    with whole(path) as part:
        write_csv(part, [value._asdict() for value in values])


def read_values(path: Path) -> list[Value]:
    """Those of :func:`save_values`.

    Raises:
        InputError: if there is no such file.
    """
    if not path.exists():
        raise InputError(f"there is no '{path}': run the study first, or name another folder")
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Value(
                row["block"], row["method"], int(row["seed"]) if row["seed"] else None,
                row["figure"], float(row["value"]),
            )
            for row in csv.DictReader(file)
        ]  # fmt: skip
