"""How the inner solves of many examples ended."""

import math

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from savi.errors import InputError
from savi.report.figures.axes import log_scale, omission
from savi.report.figures.style import BLUE, GREY, TITLE_PAD, VERMILION, WIDTH, message, styled

BINS = 30


@styled
def inner_histograms(
    stationarity: Float[Tensor, " N"], curvature: Float[Tensor, " M"] | None
) -> Figure:
    """Relative stationarity and smallest curvature where the inner solves stopped.

    Where the curvature is not above 0 (vermilion), the point is no strict minimum. Values that
    cannot be drawn are left out and counted below the panel.

    Args:
        stationarity: norm of the inner gradient at λK, relative to that at λ0.
        curvature: smallest eigenvalue of the inner Hessian at λK; None where it is not known.

    Raises:
        InputError: if there is no example.
    """
    if stationarity.numel() == 0:
        raise InputError("there is no inner solve to draw: pass at least one example")
    norms = stationarity.detach().cpu().double().numpy()
    eigenvalues = np.zeros(0) if curvature is None else curvature.detach().cpu().double().numpy()
    if not np.isfinite(norms).any() and not np.isfinite(eigenvalues).any():
        return message("No inner solve ended at a finite point")
    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left_out = _histogram(left, norms, logarithmic=True)
    left.set_title("Relative stationarity", pad=TITLE_PAD)
    left.set_xlabel("gradient norm / its norm at $\\lambda_0$" + left_out)
    left.set_ylabel("examples")
    if eigenvalues.size == 0:
        right.remove()
        return figure
    low, high = eigenvalues.min(), eigenvalues.max()
    wide = bool(low > 0 and 10 * low < high < np.inf)
    left_out = _histogram(right, eigenvalues, logarithmic=wide)
    right.set_title("Smallest curvature", pad=TITLE_PAD)
    right.set_xlabel("smallest eigenvalue of the inner Hessian" + left_out)
    return figure


def _histogram(axes: Axes, values: Float[np.ndarray, " N"], logarithmic: bool) -> str:
    """Draw a histogram, with a line at the median; returns what to say of values left out."""
    usable = np.isfinite(values)
    if logarithmic:
        usable &= np.nan_to_num(values) > 0
    drawn = values[usable]
    left_out = omission(int(np.sum(~usable)), "positive" if logarithmic else "finite")
    if not drawn.size:
        return left_out
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    edges = _edges(drawn.min(), drawn.max(), logarithmic)
    if logarithmic:
        log_scale(axes, "x")
    counts, edges = np.histogram(drawn, edges)
    colours = [VERMILION if right <= 0 else BLUE for right in edges[1:]]
    axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=colours)
    median = float(np.median(drawn))
    axes.axvline(median, color=GREY, linewidth=1.0, label=f"median {median:.2g}")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderpad=0, borderaxespad=0.3)
    return left_out


def _edges(low: float, high: float, logarithmic: bool) -> Float[np.ndarray, " E"]:
    """The limits of the bars; the axis is never so short that its ticks differ by rounding."""
    if logarithmic:
        margin = max(1.0, math.sqrt(10.0 * low / high))
        return np.geomspace(low / margin, high * margin, BINS + 1)
    centre, half = (low + high) / 2, max((high - low) / 2, 0.01 * max(abs(low), abs(high)), 1e-12)
    edges = np.linspace(centre - half, centre + half, BINS + 1)
    # No bar holds values of both signs.
    return np.unique(np.append(edges, 0.0)) if low < 0 < high else edges
