"""The implicit function theorem at λK."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from savi.errors import SettingError
from savi.gradients.base import BACKENDS, EncoderGradient, GradientBackend, refuse_second_derivative
from savi.gradients.certificate import HANDLED, Certificate, OnFailure, damped
from savi.gradients.checkpointed import Checkpointed
from savi.gradients.probe import probe
from savi.gradients.recompute import Run, captured_in_a_step, require_same, sweep
from savi.gradients.smoothness import kinked_operations
from savi.inner.loop import InnerLoop
from savi.inner.objective import InnerObjective, Linearization
from savi.inner.precision import full_precision
from savi.inner.solution import Solution
from savi.linear import SOLVERS, LinearSolution, LinearSolver, LinearStatus, SymmetricOperator
from savi.linear.base import irregular
from savi.settings import setting


@BACKENDS.register("ift")
@dataclass(frozen=True)
class Implicit(GradientBackend):
    """dλ*/dθ = −H⁻¹ ∂F/∂θ with F = ∇_λ J(λ; θ) = 0 and H = ∂F/∂λ, at the λK that was reached.

    Attached to the graph as λK + A(F), where F is computed once with its graph and A has value 0
    and sends a cotangent v to −H⁻¹v: whatever F depends on (θ, γ, the anchor λ0 of a proximal
    term) receives its gradient by ordinary autograd. At a distance ε from the solution the error
    of the θ-gradient is O(ε²), where the direct gradient alone is off by O(ε).

    λ0 receives a gradient only through an objective that depends on it (``proximal``): an exact
    solution does not depend on where the search started.

    Args:
        solver: a linear solver's name, or the solver itself.
        on_failure: what to do with examples that break a condition of the theorem
            (:class:`savi.gradients.certificate.OnFailure`): ``warn``, ``raise``, ``mask``, ``damp``
            or ``fallback``.
        rtol: relative residual at which an iterative solver named by ``solver`` stops; the
            certificate accepts max(100 rtol, 1e-3).
        max_steps: its largest number of steps; None lets the solver choose.
        max_stationarity: the largest ‖F(λK)‖/‖F(λ0)‖ that counts as solved.
        max_error: the largest estimated error of the gradient that passes without a warning.

    Raises:
        InputError: for an unknown solver or policy, a number out of range, or ``max_steps`` for a
            direct solver.
    """

    solver: str | LinearSolver = setting("cholesky", one_of=SOLVERS)
    on_failure: str = setting("warn", one_of=[policy.value for policy in OnFailure])
    rtol: float = setting(1e-5, above=0)
    max_steps: int | None = setting(None, at_least=1)
    max_stationarity: float = setting(0.1, above=0)
    max_error: float = setting(1e-2, above=0)
    name: ClassVar[str] = "ift"
    encoder_gradient: ClassVar[EncoderGradient] = EncoderGradient.ZERO
    memory: ClassVar[str] = "O(1)"
    second_derivatives: ClassVar[str] = "refused"
    refuses_fresh_noise: ClassVar[str] = (
        "an objective that is redrawn at every step has no stationary point"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        solver = self._linear_solver()
        if self.max_steps is not None and solver.direct:
            direct = f"solver '{solver.name}', a direct solver without steps"
            raise SettingError("max_steps", f"with {direct}: leave it out, or take solver 'cg'")

    def encoder_gradient_for(self, anchored: bool, max_steps: int) -> EncoderGradient:
        """Exact through an objective that is anchored at λ0, zero otherwise."""
        return EncoderGradient.EXACT if anchored else EncoderGradient.ZERO

    def solve(
        self,
        loop: InnerLoop,
        objective: InnerObjective,
        init: Float[Tensor, "B P"],
        differentiable: bool,
    ) -> Solution:
        """Run the loop without a graph, then attach the theorem."""
        solver = self._linear_solver()
        if solver.needs_gauss_newton and not objective.gauss_newton:
            raise SettingError(
                "solver",
                f"'{solver.name}' with an objective that has no Gauss–Newton matrix: "
                "take solver 'cholesky'",
            )
        solution = loop.run(objective, init)
        if not differentiable:
            return solution
        linearization = objective.linearize(solution.value)
        certificate = Certificate(
            solution.stationarity,
            self.max_stationarity,
            max_residual=max(100.0 * self.rtol, 1e-3),
            max_error=self.max_error,
            degenerate=linearization.degenerate,
            kinks=kinked_operations(linearization.residual, linearization.point),
        )
        fallback, unrolled = None, []
        if self.on_failure == OnFailure.FALLBACK.value:
            plain = replace(loop, compile=False)
            fallback = Fallback(plain, objective, init.detach(), solution.value)
            captured = captured_in_a_step(self.name, plain, objective, init, solution.value)
            unrolled = [init, *captured]
        adjoint = AdjointSolve(
            objective,
            init.detach(),
            linearization,
            solver,
            OnFailure(self.on_failure),
            certificate,
            fallback,
        )
        correction = ImplicitCorrection.apply(adjoint, linearization.residual, *unrolled)
        return replace(solution, value=solution.value + correction, certificate=certificate)

    def _linear_solver(self) -> LinearSolver:
        if isinstance(self.solver, LinearSolver):
            return self.solver
        return SOLVERS[self.solver].configured(self.rtol, self.max_steps)


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
            solution, segments = backend.run(self.loop, self.objective, self.init)
        require_same("ift", solution.value, self.value, self.init)
        run = Run(
            self.loop, self.objective, self.init, self.value, solution.steps, segments, captured
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
