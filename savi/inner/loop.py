"""The one inner loop that every gradient backend runs; backends decide how to differentiate it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from savi.inner.compiled import compiled_gradient
from savi.inner.history import Decision, Iterate, Recorder
from savi.inner.objective import InnerObjective
from savi.inner.optimizers.base import InnerOptimizer
from savi.inner.precision import repeatable
from savi.inner.solution import Point, Reason, Solution
from savi.linear.base import norm
from savi.settings import Checked, setting
from savi.types import Counts, Index, Mask, PerExample, Rows

#: On a GPU, whether all examples have stopped is asked only once in so many steps: the answer
#: makes the host wait for the device.
GPU_STRIDE = 8

#: What becomes of the last step, whose end no further step will evaluate: it is judged as all
#: others are; or it is taken on trust, and J and ∇J at its end are measured for the record; or they
#: are not even that, which saves an evaluation.
JUDGED, MEASURED, TRUSTED = LAST_STEP = ("judged", "measured", "trusted")


@dataclass(frozen=True)
class InnerLoop(Checked):
    """At most ``max_steps`` optimiser steps per example, with its own stopping rule and status.

    An example stops when ‖∇J(y)‖ ≤ atol + rtol ‖∇J(λ0)‖, when its optimiser stalls, or when J or
    its gradient is not finite; from then on its iterate is frozen while the others go on. Once a
    quarter of the examples have stopped, they are dropped from the batch if the objective can tell
    its examples apart (:meth:`InnerObjective.rows`) and nobody watches the run. Under a constraint
    the KKT residual takes the place of ∇J, and every iterate is feasible. ``compile`` has
    ``torch.compile`` evaluate J and ∇J.

    ``last_step`` says what becomes of the step numbered ``max_steps`` (:data:`LAST_STEP`): taken on
    trust it may end above the start. Where it leads to a point that is not finite, it is not taken,
    and the example has diverged.

    Raises:
        InputError: if max_steps, rtol or atol is negative, or max_steps is no whole number, or for
            an unknown ``last_step``.
    """

    optimizer: InnerOptimizer
    max_steps: int = setting(20, at_least=0)
    rtol: float = setting(1e-3, at_least=0)
    atol: float = setting(0.0, at_least=0)
    compile: bool = False
    last_step: str = setting(JUDGED, one_of=LAST_STEP)

    def run(
        self,
        objective: InnerObjective,
        init: Rows,
        create_graph: bool = False,
        recorder: Recorder | None = None,
        through_steps: bool = False,
    ) -> Solution:
        """Minimise from ``init``; an example never ends above its start.

        Where the last iterate is worse than the start, or not finite, the run is repeated up to
        each example's best iterate. Repeating costs one more run in that rare case and gives the
        unrolled graph that holds no non-finite number.

        The solution's ``value`` carries the graph of the steps if ``create_graph``; ``recorder``
        sees the iterates of the run that is returned. With ``through_steps``, for a derivative of
        the steps, an example whose start is the solution takes all of them: they lead nowhere, but
        where they lead under another θ is their derivative. Those of some optimisers have none
        there (:attr:`InnerOptimizer.divides`).
        """
        init = init if create_graph else init.detach()
        progress = self._run(objective, init, create_graph, recorder, through_steps)
        worse = progress.worse_than_start(objective.stochastic)
        if self.last_step != JUDGED:
            worse = worse & (progress.steps < self.max_steps)
        reason, returns = progress.reason(worse), worse & (progress.best_step < progress.steps)
        if returns.any():
            limits = torch.where(returns, progress.best_step, progress.steps)
            progress = self._run(objective, init, create_graph, recorder, through_steps, limits)
        solution = progress.solution(objective, reason)
        return replace(solution, state=tree_map(_detached, progress.state))

    def replay(
        self,
        objective: InnerObjective,
        start: Iterate,
        count: int,
        steps: Counts,
        create_graph: bool,
        decisions: Sequence[Decision] = (),
    ) -> tuple[Rows, Any]:
        """Repeat ``count`` steps of an earlier run: no stopping rule, since that run has decided.

        Args:
            objective: the same objective.
            start: an iterate of that run.
            count: how many steps to take from it.
            steps: the number of steps that each example took in that run, and takes again.
            create_graph: whether the steps are differentiated by autograd.
            decisions: what that run decided at each of its steps, if it was kept.
        """
        y, state = start.y, start.state
        for k in range(start.step, start.step + count):
            point = self._evaluate(objective, k, y, create_graph)
            decision = decisions[k] if decisions else None
            y, state = self.take(objective, k, point, state, k < steps, create_graph, decision)
        return y, state

    def take(
        self,
        objective: InnerObjective,
        k: int,
        point: Point,
        state: Any,
        moving: Mask,
        create_graph: bool,
        decision: Decision | None = None,
    ) -> tuple[Rows, Any]:
        """Step ``k`` of an earlier run from ``point``, of the examples that are ``moving``."""
        with repeatable():
            y, state = self._trial(objective, k, point, state, create_graph)
        if self.optimizer.judges:
            value = objective.at_step(k).value(y.detach())
            accepted, state = self._judge(point, y, value, state)
            if decision is not None:
                accepted, state = decision.accepted, decision.repeated(state)
            moving = moving & accepted
        return torch.where(moving.unsqueeze(-1), y, point.y), state

    def _evaluate(self, objective: InnerObjective, step: int, y: Rows, create_graph: bool) -> Point:
        problem = objective.at_step(step)
        if self.compile:
            return Point(y, *compiled_gradient(problem, y, create_graph))
        return Point(y, *problem.gradient(y, create_graph))

    def _trial(
        self, objective: InnerObjective, k: int, point: Point, state: Any, create_graph: bool
    ) -> tuple[Rows, Any]:
        # A constraint of its own may hold a graph that nobody asked for.
        with torch.set_grad_enabled(create_graph):
            problem = objective.at_step(k)
            proposal, state = self.optimizer.step(problem, point, state, create_graph)
            return objective.project(proposal), state

    def _judge(self, point: Point, trial: Rows, value: PerExample, state: Any) -> tuple[Mask, Any]:
        with torch.no_grad():
            plain = Point(point.y.detach(), point.value, point.gradient.detach())
            accepted, state = self.optimizer.judge(plain, trial.detach(), value, state)
            # Not to move is no worse, and has a derivative.
            return accepted | (trial == point.y).all(dim=-1), state

    def _advance(
        self,
        objective: InnerObjective,
        k: int,
        progress: Progress,
        create_graph: bool,
        recorder: Recorder | None,
        everyone: bool,
    ) -> Progress:
        """Step ``k`` of the active examples, which are known to be all of them if ``everyone``."""
        point, active = progress.point, progress.active
        with repeatable(create_graph or recorder is not None):
            trial, state = self._trial(objective, k, point, progress.state, create_graph)
        if k + 1 == self.max_steps and self.last_step != JUDGED:
            return self._trust(objective, progress, trial, state)
        # The gradient at the last iterate is only reported: it needs no graph.
        graph = create_graph and k + 1 < self.max_steps
        moving, new = active, None
        if self.optimizer.judges:
            if create_graph or objective.stochastic:
                # A trial that is turned down must leave no graph: it may not even be finite.
                value = objective.at_step(k).value(trial.detach())
            else:
                new = self._evaluate(objective, k, trial, False)
                value = new.value
            accepted, state = self._judge(point, trial, value, state)
            moving = active & accepted
            if recorder is not None:
                recorder.decide(accepted, state)
        stalled = self.optimizer.stalled(state, point.y, trial)
        rows = moving.unsqueeze(-1)
        whole = everyone and not self.optimizer.judges
        y = trial if whole else torch.where(rows, trial, point.y)
        if new is None:
            new = self._evaluate(objective, k + 1, y, graph)
        else:
            value = torch.where(moving, new.value, point.value)
            new = Point(y, value, torch.where(rows, new.gradient, point.gradient))
        return progress.after(objective, new, state, stalled, everyone)

    def _trust(
        self, objective: InnerObjective, progress: Progress, trial: Rows, state: Any
    ) -> Progress:
        """The end of the last step, taken by the active examples wherever it is finite."""
        point, finite = progress.point, torch.isfinite(trial.detach()).all(dim=-1)
        blocked = torch.where(progress.active & ~finite, Reason.NOT_FINITE, progress.stalled)
        progress = progress._replace(active=progress.active & finite, stalled=blocked)
        moving = progress.active
        rows = moving.unsqueeze(-1)
        y = torch.where(rows, trial, point.y)
        if self.last_step == MEASURED:
            new = self._evaluate(objective, self.max_steps, y.detach(), False)._replace(y=y)
        else:
            value = torch.where(moving, torch.nan, point.value)
            new = Point(y, value, torch.where(rows, torch.nan, point.gradient))
        return progress.after(objective, new, state, blocked)

    def _run(
        self,
        objective: InnerObjective,
        init: Rows,
        create_graph: bool,
        recorder: Recorder | None,
        through_steps: bool,
        limits: Counts | None = None,
    ) -> Progress:
        if recorder is not None:
            recorder.begin()
        point = self._evaluate(objective, 0, init, create_graph and self.max_steps > 0)
        state = self.optimizer.init(init)
        progress = Progress.begin(objective, point, state, self.rtol, self.atol)
        if through_steps and not self.optimizer.divides:
            at_rest = progress.start.residual_norm <= progress.tolerance
            progress = progress._replace(at_rest=at_rest)
        problem, dropped = objective, []
        can_drop = recorder is None and not create_graph and limits is None and not self.compile
        stops, on_cpu = self.rtol > 0 or self.atol > 0, init.device.type == "cpu"

        for k in range(self.max_steps):
            progress, everyone = progress.going_on(limits), False
            if on_cpu or (stops and k % GPU_STRIDE == 0):
                count = int(progress.active.sum())
                if count == 0:
                    break
                if can_drop and 4 * count <= 3 * len(progress.active):
                    kept = progress.active.nonzero().squeeze(-1)
                    smaller = problem.rows(kept)
                    can_drop = smaller is not None
                    if smaller is not None:
                        dropped.append((progress, kept))
                        progress, problem = progress.rows(kept), smaller
                everyone = count == len(progress.active)
            if recorder is not None:
                y = progress.point.y.detach()
                recorder.record(Iterate(k, y, progress.state), progress.active)
            progress = self._advance(problem, k, progress, create_graph, recorder, everyone)
        for whole, kept in reversed(dropped):
            progress = whole.put(kept, progress)
        if recorder is not None:
            recorder.state = progress.state
        return progress


def _detached(part: Any) -> Any:
    return part.detach() if isinstance(part, Tensor) else part


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

    ``now`` is measured at the iterate and ``start`` at λ0; an example has converged where the
    residual's norm is at most ``tolerance``, and goes on where it is ``active``. ``stalled`` is the
    :class:`Reason` of those that can make no further progress, 0 elsewhere; ``best_value`` the
    lowest J so far, after ``best_step`` of the ``steps``. Those ``at_rest`` have begun where others
    stop, and go on. ``origin`` is λ0.
    """

    origin: Point
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
    at_rest: Mask

    @classmethod
    def begin(
        cls, objective: InnerObjective, point: Point, state: Any, rtol: float, atol: float
    ) -> Progress:
        """Before the first step."""
        start = Measure.of(objective, point)
        zero = torch.zeros_like(start.value, dtype=torch.long)
        best = torch.where(start.finite, start.value, torch.inf)
        tolerance, everyone = atol + rtol * start.residual_norm, torch.ones_like(start.finite)
        at_rest = torch.zeros_like(everyone)
        origin = Point(*(part.detach() for part in point))
        return cls(
            *(origin, point, state, start, start),
            *(tolerance, everyone, zero, zero, best, zero, at_rest),
        )

    def going_on(self, limits: Counts | None) -> Progress:
        """With the examples that are to take another step, at most ``limits`` in all, as active."""
        # Cumulative: under fresh noise the gradient changes even where the iterate does not,
        # and a frozen example must not wake because its neighbours go on.
        unsolved = self.now.residual_norm > self.tolerance
        active = self.active & self.now.finite & (unsolved & (self.stalled == 0) | self.at_rest)
        return self._replace(active=active if limits is None else active & (self.steps < limits))

    def after(
        self,
        objective: InnerObjective,
        point: Point,
        state: Any,
        stalled: Counts,
        everyone: bool = False,
    ) -> Progress:
        """After a step of the active examples to ``point``, or of all."""
        now = Measure.of(objective, point)
        if not everyone:
            pairs = zip(now, self.now, strict=True)
            now = Measure(*(torch.where(self.active, new, old) for new, old in pairs))
            stalled = torch.where(self.active, stalled, self.stalled)
        steps = self.steps + self.active
        improved = now.finite & (now.value < self.best_value)
        return self._replace(
            point=point,
            state=state,
            now=now,
            stalled=stalled,
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
        stationarity = torch.where(size == 0, size, size / self.start.residual_norm)
        multiplier = objective.multiplier(y.detach(), gradient)
        return Solution(
            *(y, reason, self.steps, stationarity, self.now.value, multiplier), start=self.origin
        )
