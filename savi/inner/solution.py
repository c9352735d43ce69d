"""What an inner solve returns."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from savi.types import Counts, PerExample, Rows

if TYPE_CHECKING:
    from savi.gradients.certificate import Certificate


@dataclass(frozen=True)
class Solution:
    """The solution of a batch of inner problems, one per example.

    Attributes:
        value: λK, shape [B, P]; differentiable as the gradient backend declares.
        status: shape [B], integer values of :class:`savi.Status`.
        steps: shape [B], inner steps taken until the example stopped.
        stationarity: shape [B], ‖∇J(λK)‖ / ‖∇J(λ0)‖ (0 where both vanish), with the KKT residual
            in place of ∇J where a constraint is active.
        objective: shape [B], J(λK), detached.
        multiplier: shape [B], the multiplier ν of a trust region, 0 where it is inactive; None
            for an unconstrained problem.
        certificate: the conditions of the implicit function theorem; only for ``ift``, and filled
            when the backward has run.
    """

    value: Rows
    status: Counts
    steps: Counts
    stationarity: PerExample
    objective: PerExample
    multiplier: PerExample | None = None
    certificate: Certificate | None = None

    def describe(self) -> str:
        """A line for each outcome that occurs: how many examples, and the advice."""
        counts = [(status, int((self.status == status).sum())) for status in Status]
        return "\n".join(f"{n} {s.name}: {s.advice}" for s, n in counts if n)


class Status(IntEnum):
    """The outcome of the inner solve of one example; ``advice`` says what to do about it."""

    CONVERGED = 0
    MAX_STEPS = 1
    STALLED = 2
    DIVERGED = 3

    @property
    def advice(self) -> str:
        """One sentence: what this outcome means, and what to change."""
        return _ADVICE[self]


_ADVICE = {
    Status.CONVERGED: "The gradient fell below atol + rtol times its norm at the start.",
    Status.MAX_STEPS: (
        "The steps ran out before the gradient was small enough: raise max_steps, raise rtol, or "
        "use an optimiser with curvature such as levenberg_marquardt."
    ),
    Status.STALLED: (
        "The optimiser could not lower the objective further although the gradient is not small: "
        "the float type limits it (raise rtol, or use float64) or the objective has a kink."
    ),
    Status.DIVERGED: (
        "The objective became non-finite or ended above its start, and the best iterate was "
        "returned: lower the step size, or use levenberg_marquardt, which cannot diverge."
    ),
}
