"""What is known of every example while the inner loop runs."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from savi.inner.objective import InnerObjective
from savi.inner.optimizers.base import Point
from savi.inner.solution import Status
from savi.linear.base import norm
from savi.types import Counts, Index, Mask, PerExample


class Measure(NamedTuple):
    """J, the norm of what must vanish at a solution, and whether all is finite; without a graph."""

    value: PerExample
    slope: PerExample
    finite: Mask

    @classmethod
    def of(cls, objective: InnerObjective, point: Point) -> Measure:
        """Measured at a point."""
        with torch.no_grad():
            slope = norm(objective.residual(point.y, point.gradient))
            # Not finite if any part is not: one test instead of three. x − x is 0 for finite x.
            every = point.value + slope + point.y.sum(dim=-1)
            return cls(point.value, slope, every - every == 0)


class Progress(NamedTuple):
    """The state of a run: a tree of tensors with one row per example.

    Attributes:
        point: the iterate with J and ∇J there.
        state: the optimiser's.
        now: what was measured at the iterate.
        start: what was measured at λ0.
        tolerance: the slope at which an example has converged.
        active: which examples go on.
        stalled: which can make no further progress.
        steps: the number of steps taken.
        best_value: the lowest J so far.
        best_step: after how many steps.
    """

    point: Point
    state: Any
    now: Measure
    start: Measure
    tolerance: PerExample
    active: Mask
    stalled: Mask
    steps: Counts
    best_value: PerExample
    best_step: Counts

    @classmethod
    def begin(
        cls, objective: InnerObjective, point: Point, state: Any, rtol: float, atol: float
    ) -> Progress:
        """Before the first step."""
        start = Measure.of(objective, point)
        steps = torch.zeros_like(start.value, dtype=torch.long)
        return cls(
            point,
            state,
            start,
            start,
            atol + rtol * start.slope,
            torch.ones_like(start.finite),
            torch.zeros_like(start.finite),
            steps,
            torch.where(start.finite, start.value, torch.inf),
            steps,
        )

    def going_on(self, limits: Counts | None) -> Progress:
        """With the examples that are to take another step, at most ``limits`` in all, as active."""
        # Cumulative: under fresh noise the gradient changes even where the iterate does not,
        # and a frozen example must not wake because its neighbours go on.
        active = self.active & self.now.finite & (self.now.slope > self.tolerance) & ~self.stalled
        return self._replace(active=active if limits is None else active & (self.steps < limits))

    def after(self, objective: InnerObjective, point: Point, state: Any, stalled: Mask) -> Progress:
        """After a step of the active examples to ``point``."""
        pairs = zip(Measure.of(objective, point), self.now, strict=True)
        now = Measure(*(torch.where(self.active, new, old) for new, old in pairs))
        steps = self.steps + self.active
        improved = now.finite & (now.value < self.best_value)
        return self._replace(
            point=point,
            state=state,
            now=now,
            stalled=self.stalled | (self.active & stalled),
            steps=steps,
            best_value=torch.where(improved, now.value, self.best_value),
            best_step=torch.where(improved, steps, self.best_step),
        )

    def rows(self, index: Index) -> Progress:
        """Of some of the examples."""
        return tree_map(lambda part: part[index] if isinstance(part, Tensor) else part, self)

    def put(self, index: Index, rows: Progress) -> Progress:
        """With those rows in place of the old ones."""

        def replaced(old: Any, new: Any) -> Any:
            return old.index_copy(0, index, new) if isinstance(old, Tensor) else new

        return tree_map(replaced, self, rows)

    def status(self, worse: Mask) -> Counts:
        """How each example ended."""
        status = torch.full_like(self.steps, Status.MAX_STEPS)
        status[self.stalled] = Status.STALLED
        status[self.now.slope <= self.tolerance] = Status.CONVERGED
        status[worse] = Status.DIVERGED
        return status

    def worse_than_start(self, stochastic: bool) -> Mask:
        """Which examples are not finite, or end above their start by more than rounding."""
        if stochastic:
            return ~self.now.finite
        rounding = 8.0 * torch.finfo(self.start.value.dtype).eps * self.start.value.abs()
        return ~self.now.finite | (self.now.value > self.start.value + rounding)
