"""What several seeds say together."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import stdtrit

CONFIDENCE = 0.95
"""The level of every interval."""


@dataclass(frozen=True)
class Summary:
    """Mean over seeds, with its confidence interval.

    Attributes:
        mean: of the finite values; nan if there is none.
        half_width: of the interval around it, or None for fewer than two values.
        n: number of finite values.
        omitted: number of values that are not finite.
    """

    mean: float
    half_width: float | None
    n: int
    omitted: int


def summarise(values: Iterable[float]) -> Summary:
    """The mean, and its interval of 95 % by Student's t: mean ± t_{0.975, n−1} s / √n.

    s is the standard deviation with n − 1 in its denominator, and the values are taken for normal
    and independent. Values that are not finite are counted and left out.
    """
    everything = np.asarray(list(values), dtype=float)
    finite = everything[np.isfinite(everything)]
    n = finite.size
    mean = float(finite.mean()) if n else math.nan
    half_width = None
    if n > 1:
        t = stdtrit(n - 1, (1 + CONFIDENCE) / 2)
        half_width = float(t * finite.std(ddof=1) / math.sqrt(n))
    return Summary(mean, half_width, n, everything.size - n)


def pareto_front(
    costs: Float[np.ndarray, " N"], values: Float[np.ndarray, " N"]
) -> Bool[np.ndarray, " N"]:
    """Which points no other point dominates, where a low cost and a high value are better.

    A point is dominated by one that is no worse in both and better in one. Points that are not
    finite are on no front.
    """
    usable = np.isfinite(costs) & np.isfinite(values)
    cheaper = costs[:, None] <= costs
    better = values[:, None] >= values
    strict = (costs[:, None] < costs) | (values[:, None] > values)
    dominated = (cheaper & better & strict & usable[:, None]).any(axis=0)
    return usable & ~dominated
