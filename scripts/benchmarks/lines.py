"""Figures of lines on logarithmic axes: panels, looks, and labels at the ends of lines."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.ticker import (
    EngFormatter,
    Formatter,
    LogFormatterSciNotation,
    LogLocator,
    NullFormatter,
)
from matplotlib.typing import ColorType

from savi.report.figures.style import PALETTE

DASHES = ["-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5))]
LINES = cycler(linestyle=DASHES) * cycler(color=PALETTE)
MARKERS = "osD^v<>pX"
#: Up to so many decades an axis is labelled at 2 and 5 times the powers of ten, too.
FEW_DECADES = 1.7
#: The height of a label in units of its font size.
SPACING = 1.5
BYTES, SECONDS = EngFormatter(unit="B"), EngFormatter(unit="s")
POWERS = LogFormatterSciNotation()


@dataclass(frozen=True)
class Line:
    """Its name, its points, and how it is drawn."""

    text: str
    x: Sequence[float]
    y: Sequence[float]
    look: Mapping[str, Any] = field(default_factory=dict)

    def draw(self, axes: Axes) -> None:
        """Add it to the axes."""
        axes.plot(self.x, self.y, label=self.text, **self.look)


@dataclass(frozen=True)
class End:
    """Where a line ends, in data coordinates, and what is written there."""

    x: float
    y: float
    text: str
    colour: ColorType


def looks(size: tuple[int, int] = (4, 7)) -> Iterator[dict[str, Any]]:
    """A colour, a dash and a marker for each line; every second one thin, with hollow markers.

    Neighbours may lie on each other: a thin line with hollow markers lets the other show.
    """
    for index, look in enumerate(LINES):
        thin = index % 2 == 1
        yield look | {
            "marker": MARKERS[index % len(MARKERS)],
            "markersize": size[thin],
            "markerfacecolor": "none" if thin else None,
            "linewidth": 1.2 if thin else 2.0,
        }


def log_panel(
    axes: Axes, lines: Sequence[Line], *, formatter: Formatter, title: str, xlabel: str
) -> None:
    """Lines over the same sizes, which are the ticks of the lower axis; both are logarithmic."""
    for line in lines:
        line.draw(axes)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(lines[0].x, [f"{size:,}" for size in lines[0].x])
    axes.xaxis.minorticks_off()
    low, high = axes.get_ylim()
    few = math.log10(high / low) < FEW_DECADES
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(formatter)
    axes.set_xlabel(xlabel)
    axes.set_title(title)


def label_lines(axes: Axes, lines: Sequence[Line], *, height: float) -> None:
    """Write the name of each line at its end (see :func:`label_ends`)."""
    ends = [End(n.x[-1], n.y[-1], n.text, n.look.get("color", PALETTE[0])) for n in lines]
    label_ends(axes, ends, height=height)


def label_ends(axes: Axes, ends: Sequence[End], *, height: float, size: float = 8.0) -> None:
    """Write each text to the right of the axes, as near to its line's end as the others allow.

    The limits of the axes must be final.

    Args:
        axes: where the lines are.
        ends: of the lines; those that are not finite, or outside of the axes, are left out.
        height: of the axes in inches, about.
        size: of the font in points.
    """
    low, high = axes.get_ylim()
    kept = sorted((end for end in ends if low <= end.y <= high), key=lambda end: end.y)
    if not kept:
        return
    scale = axes.yaxis.get_transform()
    bottom, top = scale.transform([low, high])
    wanted = (scale.transform([end.y for end in kept]) - bottom) / (top - bottom)
    arrow = {"arrowstyle": "-", "linewidth": 0.6, "relpos": (0.0, 0.5), "shrinkA": 1, "shrinkB": 3}
    style = {"textcoords": "axes fraction", "va": "center", "size": size, "annotation_clip": False}
    for end, place in zip(kept, apart(wanted, SPACING * size / (72.0 * height)), strict=True):
        colour = {"color": end.colour}
        at, written_at = (end.x, end.y), (1.09, place)
        axes.annotate(end.text, at, written_at, arrowprops=arrow | colour, **colour, **style)


def apart(wanted: Sequence[float] | np.ndarray, gap: float) -> list[float]:
    """The places nearest to the rising ones ``wanted`` that are at least ``gap`` apart.

    Least squares, by pooling neighbours that would violate the order (isotonic regression); then
    moved into [0, 1] as a whole where they stand out of it.
    """
    blocks: list[list[float]] = []
    for index, place in enumerate(wanted):
        blocks.append([float(place) - index * gap])
        while len(blocks) > 1 and np.mean(blocks[-2]) > np.mean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    level = [float(np.mean(block)) for block in blocks for _ in block]
    highest = 1.0 - (len(level) - 1) * gap
    # Pooling has made the levels rise, and so do they when each is moved into the same range.
    return [
        min(max(value, 0.0), max(highest, 0.0)) + index * gap for index, value in enumerate(level)
    ]
