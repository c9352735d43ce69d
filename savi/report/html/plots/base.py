"""What all plots share: numbers, colours, axes."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any, TypedDict

import numpy as np
from jaxtyping import Float

from savi.report.figures.style import view
from savi.report.metrics import Metric

COLOURS = 6
"""Colours of the style sheet, ``--series-1`` and so on."""

DASHES = ("solid", "dash", "dot", "dashdot")
SYMBOLS = ("circle", "diamond", "square", "triangle-up")

MOST_POINTS = 400
"""Points of a curve that are drawn at most."""


class Plot(TypedDict):
    """The two arguments of ``Plotly.react``."""

    data: list[dict[str, Any]]
    layout: dict[str, Any]


def colour(number: int) -> str:
    """The colour of a series or a setting; after six they come again, with another dash."""
    return f"var(--series-{number % COLOURS + 1})"


def dash(number: int) -> str:
    """The dash that tells series of one colour apart."""
    return DASHES[number // COLOURS % len(DASHES)]


def symbol(number: int) -> str:
    """The marker that tells points of one colour apart."""
    return SYMBOLS[number // COLOURS % len(SYMBOLS)]


def numbers(values: Iterable[float]) -> list[float | int | None]:
    """Values for JSON: six significant digits, and null for what is not finite."""
    return [_number(float(value)) for value in values]


def _number(value: float) -> float | int | None:
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() and abs(value) < 1e15 else float(f"{value:.6g}")


def thinned(length: int) -> np.ndarray:
    """The positions to draw of a curve: all, or ``MOST_POINTS`` at even distances."""
    return np.unique(np.linspace(0, length - 1, min(length, MOST_POINTS)).round().astype(int))


def text(words: str) -> str:
    """Words of a user's for a plot: plotly.js reads tags in its texts."""
    return html.escape(words, quote=False)


def scale_of(metric: Metric) -> str:
    """The axis that suits a metric, from the way its value is written."""
    if metric.spec.endswith("%"):
        return "share"
    return "log" if metric.spec.endswith("e") else "linear"


def axis(scale: str, curves: Sequence[Float[np.ndarray, " T"]], unit: str = "") -> dict[str, Any]:
    """A y axis for some curves.

    A linear one shows the range within the Tukey fences where outliers would flatten the rest; a
    double click on the plot shows all.
    """
    if scale == "share":
        return titled(unit) | {"tickformat": ".0%", "range": [-0.04, 1.04]}
    finite = np.concatenate([curve[np.isfinite(curve)] for curve in curves] or [np.empty(0)])
    if scale == "log" and (log := log_axis(finite)):
        return titled(unit) | log
    shown = view(curves)
    if shown:
        return titled(f"{unit}, clipped" if unit else "clipped") | {"range": list(shown)}
    return titled(unit) | ({"rangemode": "nonnegative"} if (finite >= 0).all() else {})


def titled(words: str) -> dict[str, Any]:
    """An axis with a title."""
    return {"title": {"text": text(words)}} if words else {}


def log_axis(values: Float[np.ndarray, " T"]) -> dict[str, Any]:
    """A logarithmic axis for the positive values; empty where they need none.

    Its labels are powers of ten over a wide range, and 1, 2, 5 times these over a narrow one.
    """
    positive = values[values > 0]
    if not positive.size or positive.max() < 3 * positive.min():
        return {}
    decades = math.log10(positive.max() / positive.min())
    if decades < 1.5:
        return {"type": "log", "dtick": "D2", "tickformat": "~g"}
    powers = {"dtick": max(1, math.ceil(decades / 6)), "exponentformat": "power"}
    return {"type": "log", **powers, "tickfont": {"size": 10.5}}


def swatch(number: int) -> dict[str, Any]:
    """The line of a setting."""
    return {"color": colour(number), "dash": dash(number), "width": 2}
