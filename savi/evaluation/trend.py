"""Whether a training was over: a curve that still rises tells of too few epochs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

#: The end of a curve that is looked at, as a share, and its points at least.
END, FEWEST = 0.25, 4
#: A rise counts if its slope is above 0 with this confidence,
CONFIDENCE = 0.975
#: if it is this share of what was gained after the first quarter, whose transient says little,
SHARE = 0.1
#: and so many nats.
NATS = 0.1


def still_rising(curve: Sequence[float]) -> str:
    """What a ``val/elbo`` curve says against the training's being over; empty if nothing.

    A line is fitted to the last quarter, and its slope compared with its own standard error, by
    Student's t. A rise that small noise cannot explain is passed over if it is next to nothing.
    """
    values = np.asarray([value for value in curve if math.isfinite(value)], dtype=float)
    if not values.size:
        return ""
    if values.size < FEWEST:
        times = "once" if values.size == 1 else f"{values.size} times"
        return f"val/elbo was measured only {times}, too seldom to tell whether it still rises"
    end = values[-max(FEWEST, math.ceil(END * values.size)) :]
    steps = np.arange(end.size) - (end.size - 1) / 2
    slope = float(steps @ end / (steps @ steps))
    residuals = end - end.mean() - slope * steps
    error = math.sqrt(float(residuals @ residuals) / (end.size - 2) / float(steps @ steps))
    rise = slope * (end.size - 1)
    gained = float(values.max() - values[values.size // 4])
    if slope <= stdtrit(end.size - 2, CONFIDENCE) * error or rise < max(NATS, SHARE * gained):
        return ""
    return f"val/elbo still rose by {rise:.3g} nats over its last {end.size} values"
