"""What a figure's axes show of the data."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.ticker import LogFormatterSciNotation, LogLocator


def view(curves: Sequence[Float[np.ndarray, " T"]]) -> tuple[float, float] | None:
    """The part of a linear axis to show, or None for all of it.

    Each curve asks for the range between its Tukey fences, Q1 − 1.5 IQR and Q3 + 1.5 IQR, within
    the data; the view is the smallest that grants all of them. It is taken only where it more
    than doubles the resolution.

    Args:
        curves: values of each curve; the finite ones count.
    """
    curves = [curve[np.isfinite(curve)] for curve in curves]
    curves = [curve for curve in curves if curve.size]
    if not curves:
        return None
    everything = np.concatenate(curves)
    quartiles = [np.quantile(curve, (0.25, 0.75)) for curve in curves]
    low = max(everything.min(), min(q1 - 1.5 * (q3 - q1) for q1, q3 in quartiles))
    high = min(everything.max(), max(q3 + 1.5 * (q3 - q1) for q1, q3 in quartiles))
    if high <= low or np.ptp(everything) <= 2 * (high - low):
        return None
    margin = 0.06 * (high - low)
    return float(low - margin), float(high + margin)


def clip(axes: Axes, curves: Sequence[Float[np.ndarray, " T"]], unit: str) -> None:
    """Limit the y axis to the ``view`` of its curves, and say in its label how far they go."""
    limits = view(curves)
    axes.set_ylabel(unit)
    # A factor such as 1e12 stands at the right, out of the legend's way.
    axes.yaxis.set_offset_position("right")
    if limits is None:
        return
    everything = np.concatenate(curves)
    lowest, highest = np.nanmin(everything), np.nanmax(everything)
    ends = [f"min {short(lowest)}"] if lowest < limits[0] else []
    ends += [f"max {short(highest)}"] if highest > limits[1] else []
    axes.set_ylim(limits)
    axes.set_ylabel(f"{unit}\n(clipped: {', '.join(ends)})".lstrip())


def log_scale(axes: Axes, direction: Literal["x", "y"] = "y") -> None:
    """Make an axis logarithmic, with labels that do not crowd a small panel."""
    axes.set(**{f"{direction}scale": "log"})
    axis = axes.xaxis if direction == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(numticks=6))
    axis.set_minor_formatter(LogFormatterSciNotation(minor_thresholds=(1, 0.4)))


def short(value: float) -> str:
    """A number for a label: few digits, no more characters than need be."""
    text = f"{value:,.0f}" if 100 <= abs(value) < 1e6 else f"{value:.3g}"
    return text.replace("e+0", "e").replace("e+", "e").replace("e-0", "e-").replace("-", "−")


def legend_above(axes: Axes) -> None:
    """Put the legend between the title and the axes, where it cannot hide a curve."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderpad=0, borderaxespad=0.3)


def omission(count: int, fault: str = "finite") -> str:
    """What a panel leaves out, in words to follow the label of its x axis."""
    return f" ({count:,} value{'s' * (count > 1)} not {fault})" if count else ""
