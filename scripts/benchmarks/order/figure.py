"""The figure of the benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from benchmarks.order.measure import ErrorCurve
from savi.report.figures.style import PALE, TITLE_PAD, WIDTH, legend_above, styled


@styled
def error_against_stationarity(
    curves: Mapping[str, ErrorCurve], levels: Sequence[float], window: tuple[float, float]
) -> Figure:
    """The median error of each backend against the stationarity, on log axes.

    The window in which the slopes are fitted is shaded.

    Args:
        curves: by backend.
        levels: the stationarities asked for, on the horizontal axis.
        window: from and to.
    """
    figure = Figure(figsize=(0.7 * WIDTH, 0.45 * WIDTH), layout="constrained")
    axes = figure.subplots()
    axes.axvspan(*window, color=PALE, alpha=0.5, linewidth=0, zorder=0)
    for name, curve in curves.items():
        errors = [curve.median_error(level) for level in levels]
        axes.plot(levels, errors, marker="o", label=f"{name}, slope {curve.slope(window):.2f}")
    axes.set_xscale("log")
    axes.set_yscale("log")
    # Better solved to the right.
    axes.invert_xaxis()
    axes.set_xlabel("relative stationarity of the inner solve")
    axes.set_ylabel("relative error of the θ-gradient")
    axes.set_title("Gradient error of an inexact solve", pad=2 * TITLE_PAD)
    legend_above(axes)
    return figure
