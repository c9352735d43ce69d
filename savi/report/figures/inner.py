"""What the inner optimiser does, step by step."""

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from savi.errors import InputError
from savi.report.figures.axes import clip, legend_above, log_scale, omission, short
from savi.report.figures.style import BLUE, FEW, GREY, TITLE_PAD, VERMILION, WIDTH, message, styled

QUANTILES = (0.1, 0.5, 0.9)


@styled
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
    values, norms = (part.detach().cpu().double().numpy() for part in (elbo, stationarity))
    if len(values) == 1:
        median = short(_quantiles(values)[0, 1])
        return message(f"No inner steps (K = 0): the median ELBO is {median} nats")
    with np.errstate(invalid="ignore"):
        gain = values - values[0]
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    medians = _draw(left, gain, BLUE)
    left.set_title("Gain in ELBO over $\\lambda_0$", pad=TITLE_PAD)
    left.axhline(0, color=GREY, linewidth=0.8, zorder=1)
    # The zero line counts as a curve, so that the first gain is never clipped away.
    clip(left, [*medians.T, np.zeros(1)], "nats")
    ratios = _draw(right, norms, VERMILION)
    right.set_title("Relative stationarity", pad=TITLE_PAD)
    right.set_ylabel("gradient norm / its norm at $\\lambda_0$")
    if np.nanmax(ratios, initial=0) > 0:
        log_scale(right)
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
    axes.plot(steps, median, color=colour, marker="o" if last <= FEW else "", label=label)
    if examples > 1:
        axes.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0, label="10–90 %")
    axes.set_xlabel("inner step k" + omission(int(np.sum(~np.isfinite(values)))))
    axes.set_xlim(-0.03 * last, 1.03 * last)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    legend_above(axes)
    return quantiles
