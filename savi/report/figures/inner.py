"""What the inner optimiser does, step by step, and how the solves of many examples end."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from savi.errors import InputError
from savi.report.figures import style

QUANTILES = (0.1, 0.5, 0.9)


@style.styled
def elbo_against_inner_step(
    elbo: Float[Tensor, "K+1 B"], stationarity: Float[Tensor, "K+1 B"]
) -> Figure:
    """Gain in ELBO and relative stationarity after each inner step, over a batch of examples.

    On the left L(λk) − L(λ0): the gain is told per example, so the spread of the ELBO between
    examples does not hide it. On the right the stationarity, on a log axis. Lines are medians,
    bands reach from the 10 % to the 90 % quantile; values that are not finite are left out.

    Args:
        elbo: L(λk) in nats, k = 0, ..., K.
        stationarity: norm of the inner gradient at λk, relative to that at λ0.

    Raises:
        InputError: if the two do not have the same shape, or hold no step or no example.
    """
    if elbo.shape != stationarity.shape or elbo.ndim != 2 or not elbo.numel():
        raise InputError(
            f"elbo has shape {tuple(elbo.shape)} and stationarity {tuple(stationarity.shape)}: "
            "pass both as [K+1, B] with at least one example"
        )
    values, norms = style.array(elbo), style.array(stationarity)
    if len(values) == 1:
        median = style.short(_quantiles(values)[0, 1])
        return style.message(f"No inner steps (K = 0): the median ELBO is {median} nats")
    with np.errstate(invalid="ignore"):
        gain = values - values[0]
    figure = Figure(figsize=(style.WIDTH, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    medians = _draw(left, gain, style.BLUE)
    left.set_title("Gain in ELBO over $\\lambda_0$", pad=style.TITLE_PAD)
    left.axhline(0, color=style.GREY, linewidth=0.8, zorder=1)
    # The zero line counts as a curve, so that the first gain is never clipped away.
    style.clip(left, [*medians.T, np.zeros(1)], "nats")
    ratios = _draw(right, norms, style.VERMILION)
    right.set_title("Relative stationarity", pad=style.TITLE_PAD)
    right.set_ylabel("gradient norm / its norm at $\\lambda_0$")
    if np.nanmax(ratios, initial=0) > 0:
        style.log_scale(right)
    return figure


def _quantiles(values: Float[np.ndarray, "K+1 B"]) -> Float[np.ndarray, "K+1 3"]:
    """The quantiles of each step's finite values; NaN where it has none."""
    finite = [row[np.isfinite(row)] for row in values]
    nothing = np.full(len(QUANTILES), np.nan)
    return np.stack([np.quantile(row, QUANTILES) if row.size else nothing for row in finite])


def _draw(
    axes: Axes, values: Float[np.ndarray, "K+1 B"], colour: str
) -> Float[np.ndarray, "K+1 3"]:
    """Draw the median over the examples and the band around it; returns the quantiles."""
    quantiles = _quantiles(values)
    low, median, high = quantiles.T
    last, examples = len(values) - 1, values.shape[1]
    steps = np.arange(last + 1)
    label = "one example" if examples == 1 else f"median of {examples:,} examples"
    axes.plot(steps, median, color=colour, marker="o" if last <= style.FEW else "", label=label)
    if examples > 1:
        axes.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0, label="10–90 %")
    axes.set_xlabel("inner step k" + style.omission(int(np.sum(~np.isfinite(values)))))
    axes.set_xlim(-0.03 * last, 1.03 * last)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    style.legend_above(axes)
    return quantiles


BINS = 30


@style.styled
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
    norms = style.array(stationarity)
    eigenvalues = np.zeros(0) if curvature is None else style.array(curvature)
    if not np.isfinite(norms).any() and not np.isfinite(eigenvalues).any():
        return style.message("No inner solve ended at a finite point")
    figure = Figure(figsize=(style.WIDTH, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left_out = _histogram(left, norms, logarithmic=True)
    left.set_title("Relative stationarity", pad=style.TITLE_PAD)
    left.set_xlabel("gradient norm / its norm at $\\lambda_0$" + left_out)
    left.set_ylabel("examples")
    if eigenvalues.size == 0:
        right.remove()
        return figure
    low, high = eigenvalues.min(), eigenvalues.max()
    wide = bool(low > 0 and 10 * low < high < np.inf)
    left_out = _histogram(right, eigenvalues, logarithmic=wide)
    right.set_title("Smallest curvature", pad=style.TITLE_PAD)
    right.set_xlabel("smallest eigenvalue of the inner Hessian" + left_out)
    return figure


def _histogram(axes: Axes, values: Float[np.ndarray, " N"], logarithmic: bool) -> str:
    """Draw a histogram, with a line at the median; returns what to say of values left out."""
    usable = np.isfinite(values)
    if logarithmic:
        usable &= np.nan_to_num(values) > 0
    drawn = values[usable]
    left_out = style.omission(int(np.sum(~usable)), "positive" if logarithmic else "finite")
    if not drawn.size:
        return left_out
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    edges = _edges(drawn.min(), drawn.max(), logarithmic)
    if logarithmic:
        style.log_scale(axes, "x")
    counts, edges = np.histogram(drawn, edges)
    colours = [style.VERMILION if right <= 0 else style.BLUE for right in edges[1:]]
    axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=colours)
    median = float(np.median(drawn))
    axes.axvline(median, color=style.GREY, linewidth=1.0, label=f"median {median:.2g}")
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
