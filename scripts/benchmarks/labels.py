"""Labels at the ends of lines, which no reader has to look up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.typing import ColorType

#: The height of a label in units of its font size.
SPACING = 1.5


@dataclass(frozen=True)
class End:
    """Where a line ends, in data coordinates, and what is written there."""

    x: float
    y: float
    text: str
    colour: ColorType


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
    kept = [end for end in ends if low <= end.y <= high]
    if not kept:
        return
    kept.sort(key=lambda end: end.y)
    scale = axes.yaxis.get_transform()
    bottom, top = scale.transform([low, high])
    wanted = (scale.transform([end.y for end in kept]) - bottom) / (top - bottom)
    for end, place in zip(kept, apart(wanted, SPACING * size / (72.0 * height)), strict=True):
        axes.annotate(
            end.text,
            xy=(end.x, end.y),
            xytext=(1.09, place),
            textcoords="axes fraction",
            va="center",
            color=end.colour,
            size=size,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": end.colour,
                "linewidth": 0.6,
                "relpos": (0.0, 0.5),
                "shrinkA": 1.0,
                "shrinkB": 3.0,
            },
        )


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
