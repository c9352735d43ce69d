"""The curves that a training run has written, and small multiples of them."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter
from numpy.typing import ArrayLike

from savi.errors import InputError
from savi.report.figures import style
from savi.report.metrics import describe


class Series(NamedTuple):
    """The values of one metric and the optimiser steps at which they were logged."""

    steps: Int[np.ndarray, " T"]
    values: Float[np.ndarray, " T"]


#: The most bytes of a ``metrics.csv`` that are read.
CSV_BYTES = 1 << 28


def read_metrics(path: Path | str) -> dict[str, Series]:
    """Read a ``metrics.csv`` as Lightning's CSVLogger writes it.

    Its rows are sparse: each holds ``epoch``, ``step`` and the metrics logged at that moment, and
    leaves the others empty. Every column but ``step`` that has a value becomes a series of its
    own; ``nan`` and ``inf`` are kept as such.

    Raises:
        InputError: if the file does not exist, has no ``step`` column, or holds a cell that is
            not a number, is no file of rows at all, or larger than any run's.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no file {path}: give the metrics.csv of a run")
    if path.stat().st_size > CSV_BYTES:
        raise InputError(f"{path} has more than {CSV_BYTES:,} bytes")
    try:
        return _series(path)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a file of rows: {error}") from error


def _series(path: Path) -> dict[str, Series]:
    points: dict[str, list[tuple[int, float]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file, restval="", restkey="")
        names = list(rows.fieldnames or [])
        if "step" not in names:
            raise InputError(
                f"{path} has no 'step' column: give a metrics.csv that CSVLogger wrote"
            )
        for row in rows:
            numbers = {}
            for name in filter(row.get, names):
                try:
                    numbers[name] = float(row[name])
                    if name == "step":
                        np.int64(int(numbers[name]))  # Not too large for one.
                except (ValueError, OverflowError):
                    raise InputError(
                        f"{path}, line {rows.line_num}: '{row[name]}' in column '{name}' is not a "
                        "number: mend the row"
                    ) from None
            if "step" not in numbers:
                continue
            step = int(numbers.pop("step"))
            for name, value in numbers.items():
                points.setdefault(name, []).append((step, value))
    return {name: Series(*map(np.array, zip(*log, strict=True))) for name, log in points.items()}


COLUMNS = 3


@dataclass(frozen=True)
class Panel:
    """One small plot: its title, its metrics (logged name -> legend) and the kind of its y axis."""

    title: str
    curves: Mapping[str, str]
    scale: str = "linear"


def _by_split(quantity: str) -> dict[str, str]:
    return {f"train/{quantity}": "training", f"val/{quantity}": "validation"}


PANELS = (
    Panel("ELBO", _by_split("elbo")),
    Panel("Reconstruction", _by_split("reconstruction")),
    Panel("KL from the prior", _by_split("kl")),
    Panel("−log p(x)", _by_split("nll")),
    Panel("Active units", _by_split("active_units")),
    Panel("Variance γ", _by_split("gamma"), "log"),
    Panel("Inner stationarity, relative", {"inner/stationarity": ""}, "log"),
    Panel("Inner steps", {"inner/steps": ""}),
    Panel("Inner problems converged", {"inner/converged": ""}, "share"),
    Panel("Inner gain over $\\lambda_0$", {"inner/improvement": ""}),
    Panel("Gradient norm", {f"gradient/norm_{of}": of for of in ("encoder", "decoder")}, "log"),
    Panel(
        "Certificate",
        {"ift/linear_residual": "linear residual", "ift/error_bound": "error bound"},
        "log",
    ),
)
"""Every panel there can be, in the order in which they are drawn."""


@style.styled
def learning_curves(metrics: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> Figure:
    """Draw the metrics over the optimiser steps, one panel a quantity, for those that are there.

    A linear axis whose data run far beyond the Tukey fences of its curves (the first ELBOs of a
    run, say) is clipped to the fences, and its label says how far the data go. Values that are
    not finite, or not positive on a log axis, are left out and counted below the panel.

    Args:
        metrics: logged name to ``(steps, values)``, as ``read_metrics`` returns it.
    """
    panels = [panel for panel in PANELS if not metrics.keys().isdisjoint(panel.curves)]
    if not panels:
        return style.message("No learning curves were recorded")
    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(style.WIDTH, 2.4 * rows), layout="constrained")
    for axes, panel in zip_longest(figure.subplots(rows, columns, squeeze=False).flat, panels):
        if panel is None:
            axes.remove()
        else:
            _draw(axes, panel, metrics)
    names = [name for panel in panels for name in panel.curves if name in metrics]
    last = max(np.max(metrics[name][0], initial=1) for name in names)
    for axes in figure.axes:
        axes.set_xlim(-0.02 * last, 1.02 * last)
    return figure


def _draw(axes: Axes, panel: Panel, metrics: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> None:
    curves, omitted = [], 0
    for (name, label), colour in zip(panel.curves.items(), style.PALETTE, strict=False):
        if name not in metrics:
            continue
        steps, values = (np.asarray(part, dtype=float) for part in metrics[name])
        usable = np.isfinite(values)
        if panel.scale == "log":
            usable &= np.nan_to_num(values) > 0
        curves.append(np.where(usable, values, np.nan))
        omitted += int(np.sum(~usable))
        axes.plot(
            steps, curves[-1], color=colour, label=label, marker="o", markevery=_marked(usable)
        )
    axes.set_title(panel.title, pad=style.TITLE_PAD)
    axes.set_xlabel(
        "step" + style.omission(omitted, "positive" if panel.scale == "log" else "finite")
    )
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    _scale(axes, panel, curves)
    if any(panel.curves.values()):
        style.legend_above(axes)


def _scale(axes: Axes, panel: Panel, curves: list[Float[np.ndarray, " T"]]) -> None:
    """Set up the y axis as the panel asks and the curves allow."""
    if panel.scale == "share":
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_ylim(-0.04, 1.04)
    elif not any(np.isfinite(curve).any() for curve in curves):
        axes.set_yticks([])
    elif panel.scale == "log":
        style.log_scale(axes)
    else:
        metric = describe(next(iter(panel.curves)))
        style.clip(axes, curves, metric.unit if metric else "")


def _marked(usable: Bool[np.ndarray, " T"]) -> Int[np.ndarray, " M"]:
    """Points to mark: all of a few, else those that no line reaches for want of a neighbour."""
    padded = np.concatenate([[False], usable, [False]])
    alone = usable & ~padded[:-2] & ~padded[2:]
    return np.flatnonzero(usable if usable.size <= style.FEW else alone)
