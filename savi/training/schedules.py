"""The schedules of the outer learning rate, by the names that configs use."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
)

#: The part of the learning rate that ``exponential`` leaves at the end of the training.
LEFT = 0.01

#: The steps t for which ``inverse_sqrt`` keeps the learning rate.
KEPT = 1_000


def cosine(optimizer: Optimizer, steps: int) -> LRScheduler:
    """Half a period, from the learning rate to 0 (Loshchilov and Hutter 2017)."""
    return CosineAnnealingLR(optimizer, T_max=steps)


def linear(optimizer: Optimizer, steps: int) -> LRScheduler:
    """Straight down to 0."""
    return LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=steps)


def exponential(optimizer: Optimizer, steps: int) -> LRScheduler:
    """By the same factor at every step, to :data:`LEFT` of the learning rate."""
    return ExponentialLR(optimizer, gamma=LEFT ** (1.0 / steps))


def one_cycle(optimizer: Optimizer, steps: int) -> LRScheduler:
    """Up to the learning rate in the first 30 % of the steps, and down (Smith and Topin 2019)."""
    rates = [group["lr"] for group in optimizer.param_groups]
    # One step more than are taken: Lightning asks for the rate after the last one too.
    return OneCycleLR(optimizer, rates, total_steps=steps + 1, cycle_momentum=False)


def inverse_sqrt(optimizer: Optimizer, steps: int) -> LRScheduler:
    """Kept for 1,000 steps, then as 1/√t (Vaswani et al. 2017), however long the training."""
    return LambdaLR(optimizer, lambda t: math.sqrt(KEPT / max(t, KEPT)))


#: From an optimiser and the number of its steps; ``constant`` needs none of these.
SCHEDULES: Mapping[str, Callable[[Optimizer, int], LRScheduler]] = {
    "cosine": cosine, "linear": linear, "exponential": exponential, "one_cycle": one_cycle,
    "inverse_sqrt": inverse_sqrt,
}  # fmt: skip
