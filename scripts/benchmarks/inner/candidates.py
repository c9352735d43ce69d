"""The inner optimisers that are compared, each with the best that can be said for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from benchmarks.trained import TrainedBatch
from savi.errors import InputError
from savi.inner.loop import InnerLoop
from savi.inner.optimizers import OPTIMIZERS, InnerOptimizer
from savi.inner.solution import Solution, Status

#: The share of examples that must be solved.
SHARE = 0.95


@dataclass(frozen=True)
class Trial:
    """An optimiser with its options, and how it fares.

    Attributes:
        optimizer: the optimiser.
        lr: its step size, if that is one of the options that were tried.
        steps: K after which :data:`SHARE` of the examples were solved; None if never.
        converged: the share of examples that were solved in the end.
        stationarity: the quantile :data:`SHARE` of it in the end.
    """

    optimizer: InnerOptimizer
    lr: float | None
    steps: int | None
    converged: float
    stationarity: float

    @property
    def name(self) -> str:
        """The optimiser's name in configs."""
        return self.optimizer.name

    @property
    def rank(self) -> tuple[float, float, float]:
        """The better, the smaller: fewest steps, then most examples, then the flattest."""
        steps = math.inf if self.steps is None else self.steps
        flat = self.stationarity if math.isfinite(self.stationarity) else math.inf
        return steps, -self.converged, flat


def solve(optimizer: InnerOptimizer, batch: TrainedBatch, max_steps: int, rtol: float) -> Solution:
    """The bare inner solve, without any gradient of its solution.

    Raises:
        InputError: if the optimiser refuses the problem.
    """
    objective = batch.objective(max_steps)
    optimizer.check(objective)
    return InnerLoop(optimizer, max_steps, rtol).run(objective, batch.start)


def tried(
    optimizer: InnerOptimizer, lr: float | None, batch: TrainedBatch, max_steps: int, rtol: float
) -> Trial:
    """Solve once and look.

    Raises:
        InputError: if the optimiser refuses the problem.
    """
    end = solve(optimizer, batch, max_steps, rtol)
    return Trial(
        optimizer,
        lr,
        steps_needed(end),
        converged(end),
        float(quantile(end.stationarity, SHARE)),
    )


def tuned(
    name: str,
    learning_rates: Sequence[float],
    batch: TrainedBatch,
    max_steps: int,
    rtol: float,
    advance: Callable[[str], None],
) -> list[Trial] | str:
    """A first-order optimiser with each step size, any other with its defaults; the best first.

    Args:
        name: of the optimiser.
        learning_rates: the step sizes to try.
        batch: on which they are tried.
        max_steps: the most steps of a solve.
        rtol: the relative stationarity that counts as solved.
        advance: told of each solve.

    Returns:
        The trials, or why the optimiser refuses the problem.
    """
    cls = OPTIMIZERS[name]
    by_lr = is_tuned(name)
    trials = []
    try:
        for lr in learning_rates if by_lr else [None]:
            optimizer = cls() if lr is None else cls(lr=lr)  # type: ignore[call-arg]
            trials.append(tried(optimizer, lr, batch, max_steps, rtol))
            advance(name if lr is None else f"{name}, lr {lr:g}")
    except InputError as error:
        return str(error)
    return sorted(trials, key=lambda trial: trial.rank)


def is_tuned(name: str) -> bool:
    """Whether step sizes are tried: for first-order optimisers that have one."""
    cls = OPTIMIZERS[name]
    return cls.first_order and "lr" in {field.name for field in fields(cls)}  # type: ignore[arg-type]


def steps_needed(end: Solution) -> int | None:
    """The K after which :data:`SHARE` of the examples are solved; None if fewer ever are."""
    solved = end.steps[end.status == Status.CONVERGED].sort().values
    needed = math.ceil(SHARE * len(end.steps))
    return int(solved[needed - 1]) if needed <= len(solved) else None


def converged(end: Solution) -> float:
    """The share of examples that are solved."""
    return float((end.status == Status.CONVERGED).double().mean())


def quantile(values: Tensor, q: float) -> Tensor:
    """The smallest value that at least a share q of the values do not exceed; NaN is largest."""
    ordered = torch.nan_to_num(values.double(), nan=math.inf).sort().values
    return ordered[math.ceil(q * len(values)) - 1]
