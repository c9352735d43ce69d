"""What is known of every example while the inner loop runs."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from savi.inner.objective import InnerObjective
from savi.inner.optimizers.base import Point
from savi.inner.solution import Reason, Solution
from savi.linear.base import norm
from savi.types import Counts, Index, Mask, PerExample


class Measure(NamedTuple):
    """J, the norm of what must vanish at a solution, and whether all is finite; without a graph."""

    value: PerExample
    residual_norm: PerExample
    finite: Mask

    @classmethod
    def of(cls, objective: InnerObjective, point: Point) -> Measure:
        """Measured at a point."""
        with torch.no_grad():
            residual_norm = norm(objective.residual(point.y, point.gradient))
            # Not finite if any part is not: one test instead of three. x − x is 0 for finite x.
            every = point.value + residual_norm + point.y.sum(dim=-1)
            return cls(point.value, residual_norm, every - every == 0)


class Progress(NamedTuple):
    """The state of a run: a tree of tensors with one row per example.

    Attributes:
        point: the iterate with J and ∇J there.
        state: the optimiser's.
        now: what was measured at the iterate.
        start: what was measured at λ0.
        tolerance: the norm of the residual at which an example has converged.
        active: which examples go on.
        stalled: the :class:`Reason` of those that can make no further progress, 0 elsewhere.
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
    stalled: Counts
    steps: Counts
    best_value: PerExample
    best_step: Counts

    @classmethod
    def begin(
        cls, objective: InnerObjective, point: Point, state: Any, rtol: float, atol: float
    ) -> Progress:
        """Before the first step."""
        start = Measure.of(objective, point)
        zero = torch.zeros_like(start.value, dtype=torch.long)
        best = torch.where(start.finite, start.value, torch.inf)
        tolerance, everyone = atol + rtol * start.residual_norm, torch.ones_like(start.finite)
        return cls(point, state, start, start, tolerance, everyone, zero, zero, best, zero)

    def going_on(self, limits: Counts | None) -> Progress:
        """With the examples that are to take another step, at most ``limits`` in all, as active."""
        # Cumulative: under fresh noise the gradient changes even where the iterate does not,
        # and a frozen example must not wake because its neighbours go on.
        unsolved = self.now.residual_norm > self.tolerance
        active = self.active & self.now.finite & unsolved & (self.stalled == 0)
        return self._replace(active=active if limits is None else active & (self.steps < limits))

    def after(
        self, objective: InnerObjective, point: Point, state: Any, stalled: Counts
    ) -> Progress:
        """After a step of the active examples to ``point``."""
        pairs = zip(Measure.of(objective, point), self.now, strict=True)
        now = Measure(*(torch.where(self.active, new, old) for new, old in pairs))
        steps = self.steps + self.active
        improved = now.finite & (now.value < self.best_value)
        return self._replace(
            point=point,
            state=state,
            now=now,
            stalled=torch.where(self.active, stalled, self.stalled),
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

    def worse_than_start(self, stochastic: bool) -> Mask:
        """Which examples are not finite, or end above their start by more than rounding."""
        if stochastic:
            return ~self.now.finite
        rounding = 8.0 * torch.finfo(self.start.value.dtype).eps * self.start.value.abs()
        return ~self.now.finite | (self.now.value > self.start.value + rounding)

    def reason(self, worse: Mask) -> Counts:
        """Why each example ended; ``worse`` are those of :meth:`worse_than_start`."""
        solved = self.now.residual_norm <= self.tolerance
        reason = torch.where(solved, Reason.SMALL_GRADIENT, self.stalled)
        diverged = torch.where(self.now.finite, Reason.ABOVE_START, Reason.NOT_FINITE)
        return torch.where(worse, diverged, reason)

    def solution(self, objective: InnerObjective, reason: Counts) -> Solution:
        """The record of it."""
        y, gradient, size = self.point.y, self.point.gradient.detach(), self.now.residual_norm
        return Solution(
            y,
            reason,
            self.steps,
            torch.where(size == 0, size, size / self.start.residual_norm),
            self.now.value,
            objective.multiplier(y.detach(), gradient),
        )
