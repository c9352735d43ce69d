"""The implicit function theorem at λK."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from savi.errors import SettingError
from savi.gradients.base import BACKENDS, EncoderGradient, GradientBackend, refuse_second_derivative
from savi.gradients.checkpointed import Checkpointed
from savi.gradients.recompute import Run, captured_in_a_step, require_same, sweep
from savi.implicit.adjoint import Adjoint
from savi.implicit.adjoint_certificate import Certificate, Conditions
from savi.implicit.captured import captured_tensors
from savi.implicit.policy import HANDLED, OnFailure
from savi.implicit.smoothness import kinks, sequence_number
from savi.inner.loop import MEASURED, TRUSTED, InnerLoop
from savi.inner.objective import TRUST, InnerObjective, Linearization, Traits, Words, refuse
from savi.inner.optimizers import InnerOptimizer
from savi.inner.precision import full_precision, repeatable
from savi.inner.solution import Solution
from savi.linear import SOLVERS, LinearSolver
from savi.linear.base import norm
from savi.settings import setting
from savi.types import Rows

#: What can be done about an example that breaks a condition.
POLICIES = tuple(policy for policy in OnFailure if policy.value not in ("silent", "skip"))


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
            (:class:`savi.implicit.policy.OnFailure`): ``warn``, ``raise``, ``mask``, ``damp``
            or ``fallback``, which refuses a last step on trust.
        rtol: relative residual at which an iterative solver named by ``solver`` stops; the
            certificate accepts max(100 rtol, 1e-3).
        max_steps: its largest number of steps; None lets the solver choose.
        max_stationarity: the largest ‖F(λK)‖/‖F(λ0)‖ that counts as solved.
        max_error: the largest estimated error of the gradient that passes without a warning.
        certify: whether the conditions are judged. Without, every gradient is used as it comes,
            and the solution has no certificate.

    Raises:
        InputError: for an unknown solver or policy, a number out of range, ``max_steps`` for a
            direct solver, or a policy for failures that are not looked for.
    """

    solver: str | LinearSolver = setting("cholesky", one_of=SOLVERS)
    on_failure: str = setting("warn", one_of=[policy.value for policy in POLICIES])
    rtol: float = setting(1e-5, above=0)
    max_steps: int | None = setting(None, at_least=1)
    max_stationarity: float = setting(0.1, above=0)
    max_error: float = setting(1e-2, above=0)
    certify: bool = True
    name: ClassVar[str] = "ift"
    encoder_gradient: ClassVar[EncoderGradient] = EncoderGradient.ZERO
    memory: ClassVar[str] = "O(1)"
    second_derivatives: ClassVar[str] = "refused"
    refuses_fresh_noise: ClassVar[str] = (
        "an objective that is redrawn at every step has no stationary point"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.certify and self.on_failure != OnFailure.WARN.value:
            raise SettingError(
                "on_failure",
                f"'{self.on_failure}' without a certificate, which would find the failures: set "
                "certify=True",
            )
        solver = self._linear_solver()
        if self.max_steps is not None and solver.direct:
            direct = f"solver '{solver.name}', a direct solver without steps"
            raise SettingError("max_steps", f"with {direct}: leave it out, or take solver 'cg'")

    def check(
        self,
        optimizer: InnerOptimizer,
        problem: Traits,
        *,
        compiled: bool = False,
        trusting: bool = False,
    ) -> None:
        """As every backend; under ``fallback`` also a last step on trust.

        Raises:
            InputError: for what it refuses, with the reason.
        """
        super().check(optimizer, problem, compiled=compiled, trusting=trusting)
        repeats = trusting and self.on_failure == OnFailure.FALLBACK.value
        refuse(
            Words("on_failure='fallback'", "gradient.on_failure 'fallback'"),
            Words("on_failure='warn'", "gradient.on_failure=warn"),
            (TRUST, repeats, "it repeats the judgement of every step"),
        )

    def encoder_gradient_for(self, anchored: bool, max_steps: int) -> EncoderGradient:
        """Exact through an objective that is anchored at λ0, zero otherwise."""
        return EncoderGradient.EXACT if anchored else EncoderGradient.ZERO

    def solve(
        self, loop: InnerLoop, objective: InnerObjective, init: Rows, differentiable: bool
    ) -> Solution:
        """Run the loop without a graph, then attach the theorem."""
        solver = self._linear_solver()
        if solver.needs_gauss_newton and not objective.gauss_newton:
            raise SettingError(
                "solver",
                f"'{solver.name}' with an objective that has no Gauss–Newton matrix: "
                "take solver 'cholesky'",
            )
        if objective.constrained and loop.last_step == TRUSTED:
            # What vanishes at its solution is not the residual that is differentiated.
            loop = replace(loop, last_step=MEASURED)
        with repeatable(differentiable and self.on_failure == OnFailure.FALLBACK.value):
            solution = loop.run(objective, init)
        if not differentiable:
            return solution
        since = sequence_number()
        linearization, captured = self._linearized(objective, solution.value)
        if loop.last_step == TRUSTED:
            solution = _measured(solution, linearization.residual)
        adjoint = Adjoint(objective, init.detach(), linearization, solver, captured)
        certificate = None
        if self.certify:
            conditions = Conditions(
                solution.stationarity,
                linearization.degenerate,
                kinks(linearization.residual, linearization.point, since),
                self.max_stationarity,
                max_residual=max(100.0 * self.rtol, 1e-3),
                max_error=self.max_error,
            )
            certificate = Certificate(conditions)
        fallback, unrolled = None, []
        if self.on_failure == OnFailure.FALLBACK.value:
            plain = replace(loop, compile=False)
            fallback = Fallback(plain, objective, init.detach(), solution.value)
            captured = captured_in_a_step(self.name, plain, objective, init, solution.value)
            unrolled = [init, *captured]
        correction = ImplicitCorrection.apply(
            Correction(adjoint, OnFailure(self.on_failure), certificate, fallback),
            linearization.residual,
            *unrolled,
        )
        return replace(solution, value=solution.value + correction, certificate=certificate)

    def _linearized(
        self, objective: InnerObjective, value: Rows
    ) -> tuple[Linearization, list[Tensor]]:
        """F at λK, and the θ whose gradients' error is to be estimated.

        A gradient in closed form is that of a network, whose ∂F/∂θ varies as F does.
        """
        if objective.closed_gradient or not self.certify or math.isinf(self.max_error):
            return objective.linearize(value), []
        found: list[Linearization] = []
        captured = captured_tensors(lambda: found.append(objective.linearize(value)), [value])
        return found[0], captured

    def _linear_solver(self) -> LinearSolver:
        if isinstance(self.solver, LinearSolver):
            return self.solver
        return SOLVERS[self.solver].configured(self.rtol, self.max_steps)


def _measured(solution: Solution, residual: Rows) -> Solution:
    """A solution whose last step was taken on trust, with the stationarity at its end."""
    assert solution.start is not None
    size = norm(residual.detach())
    stationarity = torch.where(size == 0, size, size / norm(solution.start.gradient))
    return replace(solution, stationarity=stationarity)


@dataclass(frozen=True)
class Correction:
    """The map v ↦ −H⁻¹v, with its failures taken care of.

    Attributes:
        adjoint: v ↦ H⁻¹v.
        on_failure: what to do with failed examples.
        certificate: told the verdict; None where none is wanted.
        fallback: the gradient of failed examples by unrolling, under that policy.
    """

    adjoint: Adjoint
    on_failure: OnFailure
    certificate: Certificate | None
    fallback: Fallback | None

    def __call__(self, v: Rows, captured: tuple[Tensor, ...]) -> tuple[Tensor | None, ...]:
        """The cotangents of F, of λ0 and of the captured tensors (the latter for ``fallback``)."""
        others: list[Tensor | None] = [None] * len(captured)
        # A user may call backward inside an autocast region.
        with torch.no_grad(), full_precision(v.device.type):
            if self.certificate is None:
                return -self.adjoint(v), *others
            u, verdict = self.adjoint.judged(v, self.certificate.conditions)
            self.certificate.verdict = verdict
            verdict.report(self.on_failure)
            if self.on_failure not in HANDLED or not bool(verdict.failed.any()):
                return -u, *others
            damp = self.on_failure is OnFailure.DAMP
            instead = self.adjoint.damped(v, verdict.failed) if damp else torch.zeros_like(v)
            rows = verdict.failed.unsqueeze(-1)
            u = torch.where(rows, instead, u)
        if self.fallback is not None:
            others = self.fallback(torch.where(rows, v, 0.0), list(captured[1:]))
        return -u, *others


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
    init: Rows
    value: Rows

    def __call__(self, v: Rows, captured: list[Tensor]) -> list[Tensor | None]:
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
    def forward(correct: Correction, residual: Tensor, *unrolled: Tensor) -> Tensor:
        """Zero, whatever F is."""
        return torch.zeros_like(residual)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep what the backward needs."""
        ctx.correct = inputs[0]
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:
        """The cotangent of F, and those of the unrolled steps where they stand in."""
        # Read once: a non-reentrant checkpoint gives them once.
        saved = ctx.saved_tensors
        cotangents = ctx.correct(v.detach(), saved[1:])
        return None, *refuse_second_derivative("ift", cotangents, (v, *saved))
