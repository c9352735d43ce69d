"""Step lengths that need no tuning: powers of two that a trial's outcome moves, per example."""

from __future__ import annotations

import torch

from savi.inner.optimizers.base import Point
from savi.inner.optimizers.levenberg_marquardt import invisible, lowers
from savi.linear.base import dot, norm
from savi.types import Mask, PerExample, Rows

#: The share of the decrease foretold by the gradient that a step must bring (Armijo 1966).
ARMIJO = 1e-4

#: A line search never goes below it: an example that has reached it has stalled.
MIN_LENGTH = 2.0**-60

#: The factors by which one trial may change a step length.
MIN_FACTOR, MAX_FACTOR = 2.0**-5, 4.0

#: Where J was not finite, there is no parabola to go by.
UNKNOWN_FACTOR = 2.0**-3


def judge_length(point: Point, trial: Rows, value: PerExample) -> tuple[Mask, PerExample]:
    """Whether a trial lowers J enough, and what to multiply the next step length with.

    Along the step, with t = 1 at the trial, J is taken for the parabola through J(y), with the
    slope −e there, and J(trial): its minimum is at t* = e / 2(e − d) for a decrease d. The factor
    is the power of two nearest to t*, so that it is piecewise constant in all inputs.

    Args:
        point: where the step began.
        trial: where it led.
        value: J there.

    Returns:
        Which trials are taken, by the Armijo rule, and factors: at most ½ for the others, and 1
        where J is too flat for its float type to show a parabola.
    """
    expected = -dot(point.gradient, trial - point.y)
    decrease = point.value - value
    accepted = lowers(decrease - ARMIJO * expected.clamp_min(0.0), expected, point.value)
    bend = expected - decrease
    best = torch.where(bend > 0, expected / (2.0 * bend), torch.inf)
    best = torch.where(torch.isfinite(decrease), best, UNKNOWN_FACTOR)
    # Rounding says nothing about the parabola.
    best = torch.where(invisible(decrease, expected, point.value), 1.0, best)
    factor = nearest_power(best.clamp(MIN_FACTOR, MAX_FACTOR))
    return accepted, torch.where(accepted, factor, factor.clamp_max(0.5))


def unit_length(direction: Rows) -> PerExample:
    """The power of two t for which t·direction has a norm of about 1, whatever the scale of J."""
    with torch.no_grad():
        return 1.0 / nearest_power(norm(direction).clamp(MIN_LENGTH, 1.0 / MIN_LENGTH))


def nearest_power(t: PerExample) -> PerExample:
    """2^k with the whole number k nearest to log₂ t."""
    return torch.exp2(t.log2().round())
