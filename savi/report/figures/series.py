"""The curves that a training run has written."""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from savi.errors import InputError


class Series(NamedTuple):
    """The values of one metric and the optimiser steps at which they were logged."""

    steps: Int[np.ndarray, " T"]
    values: Float[np.ndarray, " T"]


def read_metrics(path: Path | str) -> dict[str, Series]:
    """Read a ``metrics.csv`` as Lightning's CSVLogger writes it.

    Its rows are sparse: each holds ``epoch``, ``step`` and the metrics logged at that moment, and
    leaves the others empty. Every column but ``step`` that has a value becomes a series of its
    own; ``nan`` and ``inf`` are kept as such.

    Raises:
        InputError: if the file does not exist, has no ``step`` column, or holds a cell that is
            not a number.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no file {path}: give the metrics.csv of a run")
    points: dict[str, list[tuple[int, float]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file, restval="", restkey="")
        names = list(rows.fieldnames or [])
        if "step" not in names:
            raise InputError(
                f"{path} has no 'step' column: give a metrics.csv that CSVLogger wrote"
            )
        for row in rows:
            cells = {name: row[name] for name in names if row[name] != ""}
            numbers = {
                name: _number(cell, name, rows.line_num, path) for name, cell in cells.items()
            }
            if "step" not in numbers:
                continue
            step = int(numbers.pop("step"))
            for name, value in numbers.items():
                points.setdefault(name, []).append((step, value))
    return {
        name: Series(np.array([step for step, _ in log]), np.array([value for _, value in log]))
        for name, log in points.items()
    }


def _number(cell: str, name: str, line: int, path: Path) -> float:
    try:
        return float(cell)
    except ValueError:
        raise InputError(
            f"{path}, line {line}: '{cell}' in column '{name}' is not a number: mend the row"
        ) from None
