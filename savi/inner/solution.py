"""What an inner solve returns."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from jaxtyping import Float, Int
from torch import Tensor

from savi.types import Mask


class Certified(Protocol):
    """What a backend that checks its derivative says of it, as ``savi.gradients.Certificate``."""

    @property
    def failed(self) -> Mask | None:
        """Which examples have no derivative that can be trusted; None before the backward."""

    def metrics(self) -> dict[str, float]:
        """The worst case over the batch, under the names that are logged."""


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

    value: Float[Tensor, "B P"]
    status: Int[Tensor, " B"]
    steps: Int[Tensor, " B"]
    stationarity: Float[Tensor, " B"]
    objective: Float[Tensor, " B"]
    multiplier: Float[Tensor, " B"] | None = None
    certificate: Certified | None = None

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
