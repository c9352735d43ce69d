"""The one inner loop that every gradient backend runs; backends decide how to differentiate it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from savi.errors import InputError, require_at_least
from savi.inner.compiled import compiled_gradient
from savi.inner.history import Iterate, Recorder
from savi.inner.objective import InnerObjective
from savi.inner.optimizers.base import InnerOptimizer, Point
from savi.inner.solution import Solution
from savi.inner.status import Status
from savi.linear.base import norm


@dataclass(frozen=True)
class Trajectory:
    """Where the loop ended, and the best iterate that it passed.

    ``value`` carries the unrolled graph if the loop was asked for one; all else is detached.
    ``state`` is the optimiser's at the end of the run of the whole batch.
    """

    value: Float[Tensor, "B P"]
    objective: Float[Tensor, " B"]
    stationarity: Float[Tensor, " B"]
    steps: Int[Tensor, " B"]
    status: Int[Tensor, " B"]
    best_step: Int[Tensor, " B"]
    retreated: Bool[Tensor, " B"]
    state: Any
    multiplier: Float[Tensor, " B"] | None = None

    def solution(self, value: Float[Tensor, "B P"]) -> Solution:
        """The public record, with the differentiable ``value`` that a backend made of it."""
        return Solution(
            value, self.status, self.steps, self.stationarity, self.objective, self.multiplier
        )


@dataclass(frozen=True)
class InnerLoop:
    """At most ``max_steps`` optimiser steps per example, with its own stopping rule and status.

    An example stops when ‖∇J(y)‖ ≤ atol + rtol ‖∇J(λ0)‖, when its optimiser stalls, or when J or
    its gradient is not finite; from then on its iterate is frozen while the others go on. Under a
    constraint the KKT residual takes the place of ∇J, and every iterate is feasible. ``compile``
    has ``torch.compile`` evaluate J and ∇J.

    Raises:
        InputError: if max_steps, rtol or atol is negative, or max_steps is no whole number.
    """

    optimizer: InnerOptimizer
    max_steps: int = 20
    rtol: float = 1e-3
    atol: float = 0.0
    compile: bool = False

    def __post_init__(self) -> None:
        for name in ("max_steps", "rtol", "atol"):
            require_at_least(f"inner.{name}", getattr(self, name), 0)
        if not isinstance(self.max_steps, int):
            raise InputError(f"inner.max_steps is {self.max_steps}: set it to a whole number")

    def run(
        self,
        objective: InnerObjective,
        init: Float[Tensor, "B P"],
        create_graph: bool = False,
        recorder: Recorder | None = None,
    ) -> Trajectory:
        """Minimise from ``init``; an example never ends above its start.

        Where the last iterate is worse than the start, or not finite, the run is repeated up to
        each example's best iterate. Repeating costs one more run in that rare case and gives the
        unrolled graph that holds no non-finite number.

        Args:
            objective: J.
            init: λ0.
            create_graph: whether the steps are differentiated by autograd.
            recorder: sees the iterates of the run that is returned.
        """
        trajectory = self._run(objective, init, create_graph, recorder, limits=None)
        if not trajectory.retreated.any():
            return trajectory
        limits = torch.where(trajectory.retreated, trajectory.best_step, trajectory.steps)
        replay = self._run(objective, init, create_graph, recorder, limits)
        return Trajectory(
            value=replay.value,
            objective=replay.objective,
            stationarity=replay.stationarity,
            steps=replay.steps,
            status=trajectory.status,
            best_step=replay.best_step,
            retreated=trajectory.retreated,
            state=replay.state,
            multiplier=replay.multiplier,
        )

    def replay(
        self,
        objective: InnerObjective,
        start: Iterate,
        count: int,
        steps: Int[Tensor, " B"],
        create_graph: bool,
    ) -> tuple[Float[Tensor, "B P"], Any]:
        """Repeat ``count`` steps of an earlier run: no stopping rule, since that run has decided.

        Args:
            objective: the same objective.
            start: an iterate of that run.
            count: how many steps to take from it.
            steps: the number of steps that each example took in that run, and takes again.
            create_graph: whether the steps are differentiated by autograd.

        Returns:
            The iterate and the state after the last of them.
        """
        y, state = start.y, start.state
        for k in range(start.step, start.step + count):
            point = self._evaluate(objective, k, y, create_graph)
            proposal, state = self._step(objective, k, point, state, create_graph)
            y = torch.where((k < steps).unsqueeze(-1), proposal, point.y)
        return y, state

    def _evaluate(
        self, objective: InnerObjective, step: int, y: Float[Tensor, "B P"], create_graph: bool
    ) -> Point:
        problem = objective.at_step(step)
        if self.compile:
            return Point(y, *compiled_gradient(problem, y, create_graph))
        return Point(y, *problem.gradient(y, create_graph))

    def _step(
        self, objective: InnerObjective, k: int, point: Point, state: Any, create_graph: bool
    ) -> tuple[Float[Tensor, "B P"], Any]:
        # A constraint of its own may hold a graph that nobody asked for.
        with torch.set_grad_enabled(create_graph):
            problem = objective.at_step(k)
            proposal, state = self.optimizer.step(problem, point, state, create_graph)
            return objective.project(proposal), state

    def _run(
        self,
        objective: InnerObjective,
        init: Float[Tensor, "B P"],
        create_graph: bool,
        recorder: Recorder | None,
        limits: Int[Tensor, " B"] | None,
    ) -> Trajectory:
        if recorder is not None:
            recorder.begin()
        point = self._evaluate(objective, 0, init, create_graph and self.max_steps > 0)
        value, slope, finite = _measure(objective, point)
        start_value, start_slope = value, slope
        tolerance = self.atol + self.rtol * start_slope
        state = self.optimizer.init(init)
        steps = torch.zeros_like(start_value, dtype=torch.long)
        best_value, best_step = torch.where(finite, value, torch.inf), steps
        stalled = torch.zeros_like(finite)
        active = torch.ones_like(finite)

        for k in range(self.max_steps):
            # Cumulative: under fresh noise the gradient changes even where the iterate does not,
            # and a frozen example must not wake because its neighbours go on.
            active = active & finite & (slope > tolerance) & ~stalled
            if limits is not None:
                active = active & (steps < limits)
            if not active.any():
                break
            if recorder is not None:
                recorder.record(Iterate(k, point.y.detach(), state), active)
            proposal, state = self._step(objective, k, point, state, create_graph)
            stalled = stalled | (active & self.optimizer.stalled(state, point.y, proposal))
            y = torch.where(active.unsqueeze(-1), proposal, point.y)
            steps = steps + active.long()
            # The gradient at the last iterate is only reported: it needs no graph.
            point = self._evaluate(objective, k + 1, y, create_graph and k + 1 < self.max_steps)
            measured = _measure(objective, point)
            value, slope, finite = (
                torch.where(active, new, old)
                for new, old in zip(measured, (value, slope, finite), strict=True)
            )
            improved = finite & (value < best_value)
            best_value = torch.where(improved, value, best_value)
            best_step = torch.where(improved, steps, best_step)

        worse = ~finite
        if not objective.stochastic:
            worse = worse | (value > start_value + _rounding(start_value))
        return Trajectory(
            value=point.y,
            objective=value,
            stationarity=torch.where(slope == 0, slope, slope / start_slope),
            steps=steps,
            status=_status(stalled, slope <= tolerance, worse),
            best_step=best_step,
            retreated=worse & (best_step < steps),
            state=state,
            multiplier=objective.multiplier(point.y.detach(), point.gradient.detach()),
        )


def _measure(objective: InnerObjective, point: Point) -> tuple[Tensor, Tensor, Tensor]:
    """J, the norm of what must vanish, and whether all is finite; per example, without a graph."""
    with torch.no_grad():
        slope = norm(objective.residual(point.y, point.gradient))
        finite = torch.isfinite(point.value) & torch.isfinite(slope)
        return point.value, slope, finite & torch.isfinite(point.y).all(dim=-1)


def _status(
    stalled: Bool[Tensor, " B"], converged: Bool[Tensor, " B"], worse: Bool[Tensor, " B"]
) -> Int[Tensor, " B"]:
    status = torch.full_like(stalled, Status.MAX_STEPS, dtype=torch.long)
    status[stalled] = Status.STALLED
    status[converged] = Status.CONVERGED
    status[worse] = Status.DIVERGED
    return status


def _rounding(value: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """A rise of J that rounding alone explains."""
    return 8.0 * torch.finfo(value.dtype).eps * value.abs()
