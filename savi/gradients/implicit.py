"""The implicit function theorem at λK."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from savi.errors import InputError, require_at_least, unknown_option
from savi.gradients.base import BACKENDS, EncoderGradient, GradientBackend
from savi.gradients.certificate import Certificate, OnFailure
from savi.inner.loop import InnerLoop
from savi.inner.objective import InnerObjective, Linearization
from savi.inner.precision import full_precision
from savi.inner.solution import Solution
from savi.linear import SOLVERS, LinearSolver, SymmetricOperator


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
        on_failure: what to do with examples that break a condition of the theorem: ``warn``,
            ``raise``, or ``mask`` (drop their correction).
        rtol: relative residual at which an iterative solver stops.
        max_steps: its largest number of steps; None lets the solver choose.
        max_stationarity: the largest ‖F(λK)‖/‖F(λ0)‖ that counts as solved.

    Raises:
        InputError: for an unknown solver or policy.
    """

    solver: str | LinearSolver = "cholesky"
    on_failure: str = "warn"
    rtol: float = 1e-5
    max_steps: int | None = None
    max_stationarity: float = 0.1
    name: ClassVar[str] = "ift"
    encoder_gradient: ClassVar[EncoderGradient] = EncoderGradient.ZERO
    memory: ClassVar[str] = "O(1)"
    second_derivatives: ClassVar[str] = "refused"

    def __post_init__(self) -> None:
        if self.on_failure not in {policy.value for policy in OnFailure}:
            raise unknown_option(
                "gradient.on_failure", self.on_failure, (policy.value for policy in OnFailure)
            )
        for name, value in (("max_stationarity", self.max_stationarity), ("rtol", self.rtol)):
            if not value > 0:
                raise InputError(f"gradient.{name} is {value}: set it above 0")
        if self.max_steps is not None:
            require_at_least("gradient.max_steps", self.max_steps, 1)
        self._linear_solver()

    def encoder_gradient_for(self, anchored: bool) -> EncoderGradient:
        """Exact through the anchor of a proximal problem, zero otherwise."""
        return EncoderGradient.EXACT if anchored else EncoderGradient.ZERO

    def check_noise(self, stochastic: bool) -> None:
        """Refuse an objective that is redrawn at every step."""
        if stochastic:
            raise InputError(
                "gradient 'ift' with inner.noise 'fresh': an objective that is redrawn at every "
                "step has no stationary point, so set inner.noise=crn or gradient=unrolled"
            )

    def solve(
        self,
        loop: InnerLoop,
        objective: InnerObjective,
        init: Float[Tensor, "B P"],
        differentiable: bool,
    ) -> Solution:
        """Run the loop without a graph, then attach the theorem."""
        self.check_noise(objective.stochastic)
        trajectory = loop.run(objective, init.detach())
        solution = trajectory.solution(trajectory.value.detach())
        if not differentiable:
            return solution
        certificate = Certificate(
            solution.stationarity, self.max_stationarity, max(100.0 * self.rtol, 1e-3)
        )
        linearization = objective.linearize(solution.value)
        adjoint = self._adjoint(objective, linearization, certificate)
        correction = ImplicitCorrection.apply(linearization.residual, adjoint)
        return replace(solution, value=solution.value + correction, certificate=certificate)

    def _adjoint(
        self, objective: InnerObjective, linearization: Linearization, certificate: Certificate
    ) -> Callable[[Tensor], Tensor]:
        """The map v ↦ −H⁻¹v at the linearisation point, with its certificate filled on the way."""
        operator = SymmetricOperator(
            matvec=linearization.hessian_vector_product,
            dense=linearization.hessian,
            preconditioner=(
                (lambda: objective.curvature(linearization.point.detach()))
                if objective.gauss_newton
                else None
            ),
        )
        solver, policy = self._linear_solver(), OnFailure(self.on_failure)

        def adjoint(v: Float[Tensor, "B P"]) -> Float[Tensor, "B P"]:
            # A user may call backward inside an autocast region.
            with torch.no_grad(), full_precision(v.device.type):
                linear = solver(operator, v)
            certificate.fill(linear)
            return certificate.enforce(policy, -linear.value)

        return adjoint

    def _linear_solver(self) -> LinearSolver:
        if isinstance(self.solver, LinearSolver):
            return self.solver
        return SOLVERS[self.solver].configured(self.rtol, self.max_steps)


class ImplicitCorrection(torch.autograd.Function):
    """A(F): value 0, backward v ↦ −H⁻¹v. A second derivative is refused.

    ``once_differentiable`` would not do: its refusal hangs on a leaf of its own, which
    ``autograd.grad(..., inputs)`` never visits, and −H⁻¹v would pass for a constant.
    """

    @staticmethod
    def forward(residual: Tensor, adjoint: Callable[[Tensor], Tensor]) -> Tensor:
        """Zero, whatever F is."""
        return torch.zeros_like(residual)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep the adjoint solve for the backward."""
        ctx.save_for_backward(inputs[0])
        ctx.adjoint = inputs[1]

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor, None]:
        """The cotangent of F."""
        u = ctx.adjoint(v.detach())
        if torch.is_grad_enabled():
            u = _RefuseSecondDerivative.apply(u, *ctx.saved_tensors, v)
        return u, None


class _RefuseSecondDerivative(torch.autograd.Function):
    """The identity on −H⁻¹v, linked to F and v, so that no derivative of it goes unnoticed."""

    @staticmethod
    def forward(u: Tensor, residual: Tensor, v: Tensor) -> Tensor:
        return u.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Nothing to keep."""

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> None:
        raise RuntimeError(
            "gradient 'ift' has no second derivative: set gradient=unrolled, or do not "
            "differentiate its gradient again"
        )
