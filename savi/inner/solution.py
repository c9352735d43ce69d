"""What an inner solve returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaxtyping import Float, Int
from torch import Tensor

from savi.inner.status import Status

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

    value: Float[Tensor, "B P"]
    status: Int[Tensor, " B"]
    steps: Int[Tensor, " B"]
    stationarity: Float[Tensor, " B"]
    objective: Float[Tensor, " B"]
    multiplier: Float[Tensor, " B"] | None = None
    certificate: Certificate | None = None

    def describe(self) -> str:
        """A line for each outcome that occurs: how many examples, and the advice."""
        counts = [(status, int((self.status == status).sum())) for status in Status]
        return "\n".join(f"{n} {s.name}: {s.advice}" for s, n in counts if n)
