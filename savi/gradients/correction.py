"""The implicit correction of a gradient: what the theorem adds to the direct one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from savi.gradients.certificate import Certificate
from savi.gradients.checkpointed import Checkpointed
from savi.gradients.on_failure import HANDLED, OnFailure, damped
from savi.gradients.probe import probe
from savi.gradients.recompute import Run, require_same, sweep
from savi.gradients.second_derivative import refuse_second_derivative
from savi.inner.loop import InnerLoop
from savi.inner.objective import InnerObjective, Linearization
from savi.inner.precision import full_precision
from savi.linear import LinearSolution, LinearSolver, LinearStatus, SymmetricOperator
from savi.linear.base import irregular


@dataclass(frozen=True)
class AdjointSolve:
    """The map v ↦ −H⁻¹v at the linearisation point, with its failures taken care of.

    Attributes:
        objective: the inner objective.
        init: λ0.
        linearization: F and H at λK.
        solver: of the adjoint system.
        on_failure: what to do with failed examples.
        certificate: filled on the way.
        fallback: their gradient by unrolling, under that policy.
    """

    objective: InnerObjective
    init: Float[Tensor, "B P"]
    linearization: Linearization
    solver: LinearSolver
    on_failure: OnFailure
    certificate: Certificate
    fallback: Fallback | None

    def __call__(
        self, v: Float[Tensor, "B P"], captured: tuple[Tensor, ...]
    ) -> tuple[Tensor | None, ...]:
        """The cotangents of F, of λ0 and of the captured tensors (the latter for ``fallback``)."""
        # A user may call backward inside an autocast region.
        with torch.no_grad(), full_precision(v.device.type):
            u = self.linearization.adjoint(v, lambda rhs: self._solve(rhs, v))
        failed = self.certificate.failed
        assert failed is not None
        self.certificate.report(self.on_failure)
        others: list[Tensor | None] = [None] * len(captured)
        if self.on_failure in HANDLED and bool(failed.any()):
            rows = failed.unsqueeze(-1)
            u = torch.where(rows, self._instead(v, failed), u)
            if self.fallback is not None:
                others = self.fallback(torch.where(rows, v, 0.0), list(captured[1:]))
        return -u, *others

    def _instead(self, v: Float[Tensor, "B P"], failed: Bool[Tensor, " B"]) -> Float[Tensor, "B P"]:
        """What stands in for H⁻¹v in the failed examples: 0 unless they are damped."""
        if self.on_failure is not OnFailure.DAMP:
            return torch.zeros_like(v)
        with torch.no_grad(), full_precision(v.device.type):
            hessian = self._operator().dense()
            return self.linearization.adjoint(v, lambda rhs: damped(hessian, rhs, failed))

    def _operator(self) -> SymmetricOperator:
        return self.linearization.operator(
            (lambda: self.objective.curvature(self.linearization.point.detach()))
            if self.objective.gauss_newton
            else None
        )

    def _solve(self, rhs: Float[Tensor, "B P"], v: Float[Tensor, "B P"]) -> Float[Tensor, "B P"]:
        """The linear solve for the cotangent v, judged."""
        operator = self._operator()
        linear = self.solver(operator, rhs)
        point = self.linearization.point.detach()
        residual = self.linearization.residual.detach()
        if linear.inverse is not None:
            newton_step = -linear.inverse(residual)
        else:
            # What the cotangent does not touch, negative curvature above all, these may.
            to_solution = self.solver(operator, residual)
            elsewhere = type(self.solver).configured(0.1, 8)(operator, irregular(rhs))
            newton_step = -to_solution.value
            linear = joined(linear, to_solution, elsewhere)
        seen = probe(self.objective, self.init, point, residual, newton_step, linear, rhs)
        self.certificate.fill(linear, seen, self.solver, v)
        return linear.value


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


@dataclass(frozen=True)
class Fallback:
    """The gradient of ``unrolled`` for the examples that failed, by running the loop again.

    Attributes:
        loop: the inner loop.
        objective: the inner objective.
        init: λ0.
        value: λK, where the loop must end again.
    """

    loop: InnerLoop
    objective: InnerObjective
    init: Float[Tensor, "B P"]
    value: Float[Tensor, "B P"]

    def __call__(self, v: Float[Tensor, "B P"], captured: list[Tensor]) -> list[Tensor | None]:
        """The cotangents of λ0 and of the captured tensors.

        Raises:
            RuntimeError: if the loop ends elsewhere.
        """
        backend = Checkpointed()
        with torch.enable_grad(), full_precision(v.device.type):
            trajectory, segments = backend.run(self.loop, self.objective, self.init)
        require_same("ift", trajectory.value.detach(), self.value, self.init)
        run = Run(
            self.loop, self.objective, self.init, self.value, trajectory.steps, segments, captured
        )
        return sweep(backend, run, v)


class ImplicitCorrection(torch.autograd.Function):
    """A(F): value 0, backward v ↦ −H⁻¹v. A second derivative is refused."""

    @staticmethod
    def forward(adjoint: AdjointSolve, residual: Tensor, *unrolled: Tensor) -> Tensor:
        """Zero, whatever F is."""
        return torch.zeros_like(residual)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep the adjoint solve for the backward."""
        ctx.adjoint = inputs[0]
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:
        """The cotangent of F, and those of the unrolled steps where they stand in."""
        _, *unrolled = ctx.saved_tensors
        cotangents = ctx.adjoint(v.detach(), tuple(unrolled))
        return None, *refuse_second_derivative("ift", cotangents, (v, *ctx.saved_tensors))
