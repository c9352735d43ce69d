"""The adjoint of the inner problem's solution, v ↦ H⁻¹v, judged by the theorem's conditions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from savi.implicit.adjoint_certificate import AdjointVerdict, Conditions
from savi.implicit.certificate import MAX_NONLINEARITY, SAFETY
from savi.implicit.damping import damped
from savi.implicit.nearby import MAX_JUMP, Nearby
from savi.implicit.probe import Probe, probe
from savi.implicit.system import System
from savi.inner.objective import InnerObjective, Linearization
from savi.linear.base import (
    LinearSolution,
    LinearSolver,
    LinearStatus,
    SymmetricOperator,
    irregular,
    norm,
)
from savi.linear.dense import multiply
from savi.types import Mask, Rows

Solve = Callable[[Tensor], Tensor]

_CHANGED = (
    "gradient 'ift': the objective has changed since the solve (weights or buffers updated in "
    "between) or is not deterministic, so that its linearisation is that of another one: change "
    "nothing in between"
)


@dataclass(frozen=True)
class Adjoint:
    """The map v ↦ H⁻¹v at λK.

    Attributes:
        objective: the inner objective.
        init: λ0.
        linearization: F and H at λK.
        solver: of the adjoint system.
    """

    objective: InnerObjective
    init: Rows
    linearization: Linearization
    solver: LinearSolver

    def __call__(self, v: Rows) -> Rows:
        """H⁻¹v, whatever comes out."""
        return self.linearization.adjoint(v, lambda rhs: self.solver(self._operator(), rhs).value)

    def damped(self, v: Rows, failed: Mask) -> Rows:
        """(H + τI)⁻¹v for the failed examples (:func:`savi.implicit.damping.damped`)."""
        hessian = self._operator().dense()
        return self.linearization.adjoint(v, lambda rhs: damped(hessian, rhs, failed))

    def judged(self, v: Rows, conditions: Conditions) -> tuple[Rows, AdjointVerdict]:
        """H⁻¹v and what is to be thought of it.

        Raises:
            RuntimeError: if the objective is another one by now.
        """
        needed = (v != 0).any(dim=-1)
        verdicts = []

        def solve(rhs: Rows) -> Rows:
            value, verdict = self._solve(rhs, conditions, needed)
            verdicts.append(verdict)
            return value

        u = self.linearization.adjoint(v, solve)
        return u, verdicts[0]

    def _operator(self) -> SymmetricOperator:
        return self.linearization.operator(
            (lambda: self.objective.curvature(self.linearization.point.detach()))
            if self.objective.gauss_newton
            else None
        )

    def _solve(
        self, rhs: Rows, conditions: Conditions, needed: Mask
    ) -> tuple[Rows, AdjointVerdict]:
        operator = self._operator()
        linear = self.solver(operator, rhs)
        point = self.linearization.point.detach()
        residual = self.linearization.residual.detach()
        if linear.inverse is not None:
            newton_step = -linear.inverse(residual)
        else:
            # What the cotangent does not touch, negative curvature above all, these may.
            to_solution = self.solver(operator, residual)
            elsewhere = self.solver.rough()(operator, irregular(rhs))
            newton_step = -to_solution.value
            linear = joined(linear, to_solution, elsewhere)
        seen = probe(self.objective, self.init, point, residual, newton_step, linear, rhs)
        solve = linear.inverse or (lambda r: self.solver(operator, r).value)
        seen, kinked = self._closer(seen, solve, linear, newton_step, conditions, needed)
        return linear.value, conditions.judge(linear, seen, kinked, self.solver, needed)

    def _closer(
        self,
        seen: Probe,
        solve: Solve,
        linear: LinearSolution,
        newton_step: Rows,
        conditions: Conditions,
        needed: Mask,
    ) -> tuple[Probe, Mask]:
        """Look again where a probe or the graph of F gives cause, with moves of θ as well.

        Returns:
            What was seen by now, and where F has a kink or mixes its rows.
        """
        doubtful = needed & ~(seen.nonlinearity <= MAX_JUMP) & torch.isfinite(linear.value).all(-1)
        far = needed & (seen.displacement > torch.finfo(newton_step.dtype).eps ** 0.5)
        # A gradient in closed form is that of a network, whose ∂F/∂θ varies as F does.
        known = self.objective.closed_gradient or math.isinf(conditions.max_error)
        follows = not known and bool((far & (seen.error_bound <= conditions.max_error)).any())
        kinked = torch.zeros_like(needed)
        if not (follows or conditions.kinked.in_params or bool(doubtful.any())):
            return seen, kinked
        nearby = self._nearby(solve, linear)
        if doubtful.any():
            if (doubtful & self._changed(nearby.value, seen, conditions)).any():
                raise RuntimeError(_CHANGED)
            kinked = doubtful & ~(nearby.jump_in_x() <= MAX_JUMP)
        if conditions.kinked.in_params:
            kinked = kinked | ~(nearby.jump_in_params() <= MAX_JUMP)
        if follows:
            drift = torch.where(far, SAFETY * nearby.drift(newton_step), 0.0)
            seen = replace(seen, error_bound=seen.error_bound.maximum(drift))
        return seen, kinked

    def _nearby(self, solve: Solve, linear: LinearSolution) -> Nearby:
        """∇J around λK, with H⁻¹ as the solver has it."""
        point = self.linearization.point.detach()
        system = System.of(lambda y: self.objective.gradient(y, create_graph=True)[1], point, ())
        direction = irregular(point)
        stretch = norm(self.linearization.hessian_vector_product(direction)) / norm(direction)
        stretch = stretch * point.shape[-1] ** 0.5
        condition = stretch / linear.min_curvature.clamp_min(0.0)
        rounding = torch.finfo(point.dtype).eps * condition.nan_to_num(nan=0.0, posinf=0.0)
        value = system.residual(point, system.inputs).detach()
        # Not by products, which would hold what other rows add where they are mixed.
        hessian = cache(self.linearization.hessian)
        return Nearby(system, point, value, lambda p: multiply(hessian(), p), solve, rounding)

    def _changed(self, gradient: Rows, seen: Probe, conditions: Conditions) -> Mask:
        """Where F(λK) is not what it was, by as much as raised the doubt."""
        point = self.linearization.point.detach()
        before = self.linearization.residual.detach()
        change = norm(self.objective.residual(point, gradient) - before)
        start = (norm(before) / conditions.stationarity).nan_to_num(nan=0.0)
        rounding = torch.finfo(point.dtype).eps ** 0.5 * start
        return (change > MAX_NONLINEARITY * seen.expected) & (change > rounding)


def joined(
    linear: LinearSolution, to_solution: LinearSolution, elsewhere: LinearSolution
) -> LinearSolution:
    """A solve with what two others with the same matrices have shown.

    Args:
        linear: the solve for the adjoint.
        to_solution: that for the Newton step, which must have succeeded as well.
        elsewhere: a rough one in other directions, of which only the curvature counts.
    """
    indefinite = elsewhere.status == LinearStatus.INDEFINITE
    status = torch.maximum(linear.status, to_solution.status)
    return replace(
        linear,
        residual=linear.residual.maximum(to_solution.residual),
        steps=linear.steps + to_solution.steps + elsewhere.steps,
        status=torch.where(indefinite, status.clamp_min(LinearStatus.INDEFINITE), status),
        min_curvature=linear.min_curvature.minimum(to_solution.min_curvature).minimum(
            elsewhere.min_curvature
        ),
    )
