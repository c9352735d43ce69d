"""The implicit function theorem at λK."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from savi.errors import InputError, require_at_least, unknown_option
from savi.gradients.base import BACKENDS, EncoderGradient, GradientBackend
from savi.gradients.certificate import Certificate
from savi.gradients.correction import AdjointSolve, Fallback, ImplicitCorrection
from savi.gradients.on_failure import OnFailure
from savi.gradients.recompute import captured_in_a_step
from savi.gradients.smoothness import kinked_operations
from savi.inner.loop import InnerLoop
from savi.inner.objective import InnerObjective
from savi.inner.solution import Solution
from savi.linear import SOLVERS, LinearSolver


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
            (:class:`savi.gradients.on_failure.OnFailure`): ``warn``, ``raise``, ``mask``, ``damp``
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

    solver: str | LinearSolver = "cholesky"
    on_failure: str = "warn"
    rtol: float = 1e-5
    max_steps: int | None = None
    max_stationarity: float = 0.1
    max_error: float = 1e-2
    name: ClassVar[str] = "ift"
    encoder_gradient: ClassVar[EncoderGradient] = EncoderGradient.ZERO
    memory: ClassVar[str] = "O(1)"
    second_derivatives: ClassVar[str] = "refused"
    refuses_fresh_noise: ClassVar[str] = (
        "an objective that is redrawn at every step has no stationary point"
    )

    def __post_init__(self) -> None:
        if self.on_failure not in {policy.value for policy in OnFailure}:
            raise unknown_option(
                "gradient.on_failure", self.on_failure, (policy.value for policy in OnFailure)
            )
        for name in ("max_stationarity", "max_error", "rtol"):
            if not getattr(self, name) > 0:
                raise InputError(f"gradient.{name} is {getattr(self, name)}: set it above 0")
        if self.max_steps is not None:
            require_at_least("gradient.max_steps", self.max_steps, 1)
        solver = self._linear_solver()
        if self.max_steps is not None and solver.direct:
            raise InputError(
                f"gradient.max_steps with gradient.solver '{solver.name}', a direct solver without "
                "steps: set it to null, or gradient.solver=cg"
            )

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
            raise InputError(
                f"gradient.solver '{solver.name}' with an objective that has no "
                "Gauss–Newton matrix: set gradient.solver=cholesky"
            )
        trajectory = loop.run(objective, init.detach())
        solution = trajectory.solution(trajectory.value.detach())
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
