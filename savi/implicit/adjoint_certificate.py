"""Whether the theorem's conditions hold at the solution of an inner problem, for a cotangent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from savi.implicit.certificate import (
    Verdict,
    anywhere,
    linear_checks,
    occurring,
)
from savi.implicit.policy import OnFailure
from savi.implicit.probe import Probe
from savi.implicit.reporter import Reporter
from savi.implicit.smoothness import Kinks
from savi.linear.base import LinearSolution, LinearSolver
from savi.types import Counts, Mask, PerExample

#: An error bound below it makes up for a gradient that is not small beside that at λ0.
CLOSE = 1e-2

_NOT_SOLVED = "the inner problem is not solved (raise its max_steps, or use a better optimiser)"
_INDEFINITE = "the Hessian is not positive definite, so λK is no strict minimum"
_SINGULAR = "the Hessian is singular or not finite"
_JUST_ACTIVE = "the constraint is only just active, where the solution has a kink"
_JUMPS = (
    "the gradient of the objective jumps or bends near λK (a kink, rows that are mixed, or too few "
    "steps)"
)
_BIASED = (
    "the Gauss–Newton matrix is not the Hessian, which biases the gradient (take solver cholesky)"
)
_ILL_CONDITIONED = "the Hessian is too ill-conditioned for the float type (use float64)"
_UNSOLVED = "the linear solver did not converge (raise its max_steps or rtol)"

#: The conditions in a word or two, for totals.
BRIEF = {
    _NOT_SOLVED: "not converged",
    _INDEFINITE: "not positive definite",
    _SINGULAR: "singular",
    _JUST_ACTIVE: "just active",
    _JUMPS: "kink",
    _BIASED: "gauss newton bias",
    _ILL_CONDITIONED: "ill conditioned",
    _UNSOLVED: "linear solve",
}

_INACCURATE = (
    "the estimated error exceeds max_error (raise the inner max_steps, lower the inner rtol, or "
    "raise max_error)"
)
_REPORT = Reporter(
    "implicit gradient without its conditions in some examples",
    "the inner objective",
    "implicit gradient",
)


@dataclass(frozen=True)
class Conditions:
    """What the forward knows, and what the backward is to judge by.

    Attributes:
        stationarity: ‖F(λK)‖ / ‖F(λ0)‖, with the KKT residual as F under a constraint.
        degenerate: where a constraint is active with a multiplier of 0, so that λ* has a kink.
        kinked: the operations with kinks in F.
        max_stationarity: above it an example counts as not solved, unless it is close to the
            solution all the same (a warm start, whose ‖F(λ0)‖ is small).
        max_residual: above it a linear system counts as not solved.
        max_error: above it an example counts as inaccurate.
    """

    stationarity: PerExample
    degenerate: Mask | None
    kinked: Kinks
    max_stationarity: float
    max_residual: float
    max_error: float

    def checks(self, linear: LinearSolution, seen: Probe, solver: LinearSolver) -> dict[str, Mask]:
        """Where each condition is broken that asks for no closer look, by the sentence about it.

        Args:
            linear: the solve of the adjoint system.
            seen: what was seen near the solution.
            solver: what solved.
        """
        indefinite, singular, unsolved = linear_checks(linear, self.max_residual)
        checks = {
            _NOT_SOLVED: (
                ~(self.stationarity <= self.max_stationarity) & ~(seen.error_bound <= CLOSE)
            ),
            _INDEFINITE: indefinite,
            _SINGULAR: singular,
            _unsolved(solver): unsolved,
        }
        if self.degenerate is not None:
            checks[_JUST_ACTIVE] = self.degenerate
        return checks

    def judge(
        self,
        linear: LinearSolution,
        seen: Probe,
        checks: Mapping[str, Mask],
        kinked: Mask,
        needed: Mask,
    ) -> AdjointVerdict:
        """The verdict on each example; one that needs no derivative never fails.

        Args:
            linear: the solve of the adjoint system.
            seen: what was seen near the solution.
            checks: see :meth:`checks`.
            kinked: where F has a kink at λK, mixes its rows, or is too far from linear.
            needed: where the cotangent is not 0.
        """
        broken = {reason: where & needed for reason, where in checks.items()} | {_JUMPS: kinked}
        failed = anywhere(broken, seen.error_bound)
        return AdjointVerdict(
            kinks=self.kinked.in_x,
            degenerate=self.degenerate,
            error_bound=seen.error_bound,
            min_curvature=linear.min_curvature,
            broken=occurring(broken),
            linear_residual=linear.residual,
            linear_steps=linear.steps,
            inaccurate=~failed & needed & ~(seen.error_bound <= self.max_error),
        )


@dataclass(frozen=True)
class AdjointVerdict(Verdict):
    """What the backward has found, per example.

    ``error_bound`` is that of :func:`savi.implicit.probe.probe`, for any θ that varies as λ does;
    or, for an example that is not quite at its solution, what a step of Newton's method changes of
    the gradient in the θ at hand (:func:`savi.implicit.gradient_error.gradient_error`). The latter
    is looked at unless every error is allowed, or J knows its gradient in closed form: it is then a
    network's, whose ∂F/∂θ varies as F does.

    Attributes:
        linear_residual: ‖H u − v‖ / ‖v‖ of the adjoint system.
        linear_steps: iterations of the linear solver.
        inaccurate: which examples break no condition, and have too large an error bound.
    """

    linear_residual: PerExample
    linear_steps: Counts
    inaccurate: Mask

    def report(self, policy: OnFailure) -> None:
        """Say what is wrong, unless the policy takes care of it.

        Raises:
            ImplicitGradientError: under ``raise``, if any example failed or is inaccurate.
        """
        reasons = self.findings()
        remarks = [self.finding(_INACCURATE, self.inaccurate)] if self.inaccurate.any() else []
        if policy is OnFailure.RAISE:
            reasons, remarks = [*reasons, *remarks], []
        _REPORT(policy, reasons, self.kinks, int((self.failed | self.inaccurate).sum()), remarks)

    def metrics(self) -> dict[str, float]:
        """The worst case over the batch, under the names that are logged.

        The error bound is the worst among the examples that did not fail: it says nothing of
        those that did, which ``ift/failures`` counts.
        """
        if not len(self.failed) or self.min_curvature is None:
            return {}
        metrics = {
            "ift/min_curvature": float(self.min_curvature.min()),
            "ift/linear_residual": float(self.linear_residual.max()),
            "ift/linear_steps": float(self.linear_steps.float().mean()),
            "ift/failures": float(self.failed.float().mean()),
        }
        if not self.failed.all():
            metrics["ift/error_bound"] = float(self.error_bound[~self.failed].max())
        return metrics


@dataclass(eq=False)
class Certificate:
    """The conditions of the theorem at the solution of an inner problem.

    What :class:`Conditions` and :class:`AdjointVerdict` hold are attributes of the certificate too
    (``certificate.failed``); those of the verdict are None until the backward has run.

    Attributes:
        conditions: of the forward.
        verdict: of the latest backward; None before.
    """

    conditions: Conditions
    verdict: AdjointVerdict | None = None

    def __getattr__(self, name: str) -> Any:
        """What the conditions or the verdict hold."""
        if name in _OF_CONDITIONS:
            return getattr(self.conditions, name)
        if name in _OF_VERDICT:
            return getattr(self.verdict, name, None)
        raise AttributeError(f"a certificate has no '{name}'")

    @property
    def complete(self) -> bool:
        """Whether the backward has run."""
        return self.verdict is not None

    @property
    def kinks(self) -> tuple[str, ...]:
        """The operations in J whose derivative jumps; with any, F is smooth only in pieces."""
        return self.conditions.kinked.in_x

    @property
    def smooth(self) -> bool:
        """Whether J has no operation that is known to have a kink."""
        return not self.kinks

    def metrics(self) -> dict[str, float]:
        """Those of the verdict; none before."""
        return {} if self.verdict is None else self.verdict.metrics()


_OF_CONDITIONS = frozenset(f.name for f in fields(Conditions))
_OF_VERDICT = frozenset({f.name for f in fields(AdjointVerdict)} | {"failed", "reasons"})


def _unsolved(solver: LinearSolver) -> str:
    """What a large residual of this solver means, and what to do about it."""
    if solver.biased:
        return _BIASED
    return _ILL_CONDITIONED if solver.direct else _UNSOLVED
