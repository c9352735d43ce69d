"""The adjoint of the inner problem's solution, v ↦ H⁻¹v, judged by the theorem's conditions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from savi.implicit.adjoint_certificate import AdjointVerdict, Conditions
from savi.implicit.certificate import MAX_NONLINEARITY, anywhere
from savi.implicit.damping import damped
from savi.implicit.gradient_error import gradient_error
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
from savi.types import Mask, PerExample, Rows

Solve = Callable[[Tensor], Tensor]

_CHANGED = (
    "gradient 'ift': the objective has changed since the solve (weights or buffers updated in "
    "between) or is not deterministic, so that its linearisation is that of another one: change "
    "nothing in between"
)


class Solved(NamedTuple):
    """A solve of the adjoint system.

    Attributes:
        linear: u = H⁻¹ rhs, and what is known of it.
        rhs: the right-hand side.
        newton_step: s = −H⁻¹F.
        inverse: r ↦ H⁻¹r.
    """

    linear: LinearSolution
    rhs: Rows
    newton_step: Rows
    inverse: Solve


@dataclass(frozen=True)
class Adjoint:
    """The map v ↦ H⁻¹v at λK.

    Attributes:
        objective: the inner objective.
        init: λ0.
        linearization: F and H at λK.
        solver: of the adjoint system.
        captured: what F depends on besides λ, if the error of the gradients in it is asked for.
    """

    objective: InnerObjective
    init: Rows
    linearization: Linearization
    solver: LinearSolver
    captured: Sequence[Tensor] = ()

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
        solves: list[Solved] = []

        def solve(rhs: Rows) -> Rows:
            solves.append(self._solve(rhs))
            return solves[0].linear.value

        u = self.linearization.adjoint(v, solve)
        (solved,) = solves
        needed = (v != 0).any(dim=-1)
        seen = probe(self.objective, self.init, self._point, self._residual, *solved[:3])
        checks = conditions.checks(solved.linear, seen, self.solver)
        # Only of the others is it known which step would lead to the solution.
        unbroken = needed & ~anywhere(checks, seen.error_bound)
        kinked = self._kinked(solved, seen, conditions, unbroken)
        if self.captured:
            bound = self._measured(v, u, solved, seen, conditions, unbroken & ~kinked)
            seen = replace(seen, error_bound=bound)
        return u, conditions.judge(solved.linear, seen, checks, unbroken & kinked, needed)

    @property
    def _point(self) -> Rows:
        return self.linearization.point.detach()

    @property
    def _residual(self) -> Rows:
        return self.linearization.residual.detach()

    def _operator(self) -> SymmetricOperator:
        return self.linearization.operator(
            (lambda: self.objective.curvature(self._point)) if self.objective.gauss_newton else None
        )

    def _solve(self, rhs: Rows) -> Solved:
        operator = self._operator()
        linear = solve_and_look(self.solver, operator, rhs)
        if linear.inverse is not None:
            return Solved(linear, rhs, -linear.inverse(self._residual), linear.inverse)
        to_solution = self.solver(operator, self._residual)
        return Solved(
            joined(linear, to_solution),
            rhs,
            -to_solution.value,
            lambda r: self.solver(operator, r).value,
        )

    def _kinked(self, solved: Solved, seen: Probe, conditions: Conditions, unbroken: Mask) -> Mask:
        """Where F has a kink, mixes its rows or is far from linear.

        A closer look is taken where the probe or the operations in F are a reason for one.

        Raises:
            RuntimeError: if the objective is another one by now.
        """
        finite = torch.isfinite(solved.linear.value).all(dim=-1)
        doubtful = unbroken & finite & ~(seen.nonlinearity <= MAX_JUMP)
        kinked = unbroken & ~(seen.nonlinearity <= MAX_NONLINEARITY)
        if doubtful.any():
            self._require_unchanged(doubtful, seen, conditions)
        # A Hessian in closed form, of operations without kinks, has none and mixes no rows.
        closer = not self.objective.closed_hessian or bool(conditions.kinked.in_x)
        unclear, in_params = doubtful & ~kinked & closer, conditions.kinked.in_params
        if in_params or unclear.any():
            nearby = self._nearby(solved, None if in_params else unclear)
            if unclear.any():
                kinked = kinked | (unclear & ~(nearby.jump_in_x() <= MAX_JUMP))
            if in_params:
                kinked = kinked | ~(nearby.jump_in_params() <= MAX_JUMP)
        return kinked

    def _measured(
        self, v: Rows, u: Rows, solved: Solved, seen: Probe, conditions: Conditions, usable: Mask
    ) -> PerExample:
        """The error bounds, measured for examples that are not quite at their solution.

        What a step of Newton's method changes of the gradient, with what may be left to change
        after it, and what the linear solve has left.
        """
        bound = seen.error_bound
        far = usable & (seen.displacement > torch.finfo(v.dtype).eps ** 0.5)
        if not far.any():
            return bound
        change, left = gradient_error(
            self.objective,
            self.linearization,
            self.captured,
            v,
            u,
            solved.newton_step,
            solved.inverse,
            far,
            conditions.max_error,
        )
        measured = change + left * bound + seen.unsolved
        # An infinite bound of which nothing is left is still one.
        return torch.where(far, measured.nan_to_num(nan=torch.inf, posinf=torch.inf), bound)

    def _nearby(self, solved: Solved, rows: Mask | None) -> Nearby:
        """∇J around λK, with H⁻¹ as the solver has it: of some rows, or of all and θ besides."""
        point, linear = self._point, solved.linear
        direction = irregular(point)
        stretch = norm(self._product(direction)) / norm(direction) * point.shape[-1] ** 0.5
        condition = stretch / linear.min_curvature.clamp_min(0.0)
        rounding = torch.finfo(point.dtype).eps * condition.nan_to_num(nan=0.0, posinf=0.0)
        if rows is None:
            chosen = torch.ones_like(rounding, dtype=torch.bool)
            system = System.of(
                lambda y: self.objective.gradient(y, create_graph=True)[1], point, ()
            )
        else:
            chosen = rows
            system = System(lambda y: self._gradient(y, chosen), (), ())
        value = system.residual(point, system.inputs).detach()
        return Nearby(
            system,
            point,
            value,
            lambda p: torch.where(chosen.unsqueeze(-1), self._product(p), 0.0),
            solved.inverse,
            rounding,
        )

    def _product(self, p: Rows) -> Rows:
        """H p, without what other rows add where an objective mixes them."""
        if self.solver.direct:
            return multiply(self.linearization.hessian(), p)
        # By products; every second row at a time hides the others from their neighbours.
        even = (torch.arange(len(p), device=p.device) % 2 == 0).unsqueeze(-1)
        of_even, of_odd = (
            self.linearization.hessian_vector_product(torch.where(rows, p, 0.0))
            for rows in (even, ~even)
        )
        return torch.where(even, of_even, of_odd)

    def _gradient(self, y: Rows, rows: Mask) -> Rows:
        """∇J(y) of some rows, and 0 for the others."""
        index = rows.nonzero().squeeze(-1)
        cut = self.objective.rows(index)
        if cut is None:
            return torch.where(rows.unsqueeze(-1), self.objective.gradient(y)[1], 0.0)
        return torch.zeros_like(y).index_copy(0, index, cut.gradient(y[index])[1])

    def _require_unchanged(self, rows: Mask, seen: Probe, conditions: Conditions) -> None:
        """Refuse an F(λK) that is not what it was, by as much as raised the doubt of these rows.

        Raises:
            RuntimeError: if it is so.
        """
        point, before = self._point, self._residual
        known = self.linearization.known if self.solver.direct else None
        gradient = self._gradient(point, rows) if known is None else known.gradient
        now = self.objective.residual(point, gradient)
        start = (norm(before) / conditions.stationarity).nan_to_num(nan=0.0)
        rounding = torch.finfo(point.dtype).eps ** 0.5 * start
        change = norm(now - before)
        if (rows & (change > MAX_NONLINEARITY * seen.expected) & (change > rounding)).any():
            raise RuntimeError(_CHANGED)


def solve_and_look(solver: LinearSolver, operator: SymmetricOperator, rhs: Rows) -> LinearSolution:
    """Solve, and look in other directions: what ``rhs`` does not touch may curve downwards."""
    linear = solver(operator, rhs)
    if linear.inverse is not None:
        return linear
    elsewhere = solver.rough()(operator, irregular(rhs))
    # Only its curvature counts.
    bent = torch.where(
        elsewhere.status == LinearStatus.INDEFINITE, LinearStatus.INDEFINITE, LinearStatus.SOLVED
    )
    known = replace(linear, status=bent, steps=elsewhere.steps)
    return joined(linear, replace(known, min_curvature=elsewhere.min_curvature))


def joined(linear: LinearSolution, other: LinearSolution) -> LinearSolution:
    """A solve with what another with the same matrices has shown."""
    return replace(
        linear,
        residual=linear.residual.maximum(other.residual),
        steps=linear.steps + other.steps,
        status=torch.maximum(linear.status, other.status),
        min_curvature=linear.min_curvature.minimum(other.min_curvature),
    )
