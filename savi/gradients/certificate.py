"""Whether the implicit function theorem's conditions held at the point that was differentiated."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from enum import Enum

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from savi.linear.base import LinearSolution, LinearStatus

_MESSAGE = "implicit gradient without its conditions"


class OnFailure(Enum):
    """What an implicit backward does with examples whose conditions do not hold."""

    WARN = "warn"
    RAISE = "raise"
    MASK = "mask"


class ImplicitGradientWarning(UserWarning):
    """An implicit gradient was taken where the theorem's conditions do not hold."""


class ImplicitGradientError(RuntimeError):
    """As :class:`ImplicitGradientWarning`, under ``on_failure: raise``."""


@dataclass
class Certificate:
    """The conditions of the theorem, per example; the last four are filled by the backward.

    For F(λ; θ) = ∇_λ J = 0 the theorem asks for a solution point (stationarity ‖F‖ small) and a
    nonsingular Jacobian H = ∂F/∂λ; a minimum asks H to be positive definite.

    Attributes:
        stationarity: ‖F(λK)‖ / ‖F(λ0)‖.
        min_curvature: an estimate from above of the smallest eigenvalue of H.
        linear_residual: ‖H u − v‖ / ‖v‖ of the adjoint system.
        linear_steps: iterations of the linear solver.
        failed: which examples break a condition.
    """

    stationarity: Float[Tensor, " B"]
    max_stationarity: float
    max_residual: float
    min_curvature: Float[Tensor, " B"] | None = None
    linear_residual: Float[Tensor, " B"] | None = None
    linear_steps: Int[Tensor, " B"] | None = None
    failed: Bool[Tensor, " B"] | None = None
    reasons: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether the backward has run."""
        return self.failed is not None

    def fill(self, linear: LinearSolution) -> None:
        """Record the adjoint solve and judge each example."""
        checks = {
            "the inner problem is not solved (raise inner.max_steps, or use a better optimiser)": (
                ~(self.stationarity <= self.max_stationarity)
            ),
            "the Hessian is not positive definite, so λK is no strict minimum": (
                linear.status == LinearStatus.INDEFINITE
            ),
            "the Hessian is singular or not finite": linear.status == LinearStatus.SINGULAR,
            "the linear solver did not converge (raise gradient.max_steps or gradient.rtol)": (
                ~(linear.residual <= self.max_residual) & (linear.status != LinearStatus.SINGULAR)
            ),
        }
        self.min_curvature = linear.min_curvature
        self.linear_residual = linear.residual
        self.linear_steps = linear.steps
        self.failed = torch.stack(list(checks.values())).any(dim=0)
        self.reasons = [reason for reason, broken in checks.items() if bool(broken.any())]

    def enforce(self, policy: OnFailure, adjoint: Float[Tensor, "B P"]) -> Float[Tensor, "B P"]:
        """The adjoint that may be used: warn about, refuse or drop failed examples.

        Raises:
            ImplicitGradientError: under ``RAISE``, if any example failed.
        """
        if not self.reasons or self.failed is None:
            return adjoint
        if policy is OnFailure.RAISE:
            reasons = "; ".join(self.reasons)
            raise ImplicitGradientError(
                f"{_MESSAGE}: {reasons} ({int(self.failed.sum())} examples)"
            )
        if policy is OnFailure.MASK:
            return torch.where(self.failed.unsqueeze(-1), torch.zeros_like(adjoint), adjoint)
        # The texts hold no numbers, so that Python shows each kind of failure once a run.
        for reason in self.reasons:
            warnings.warn(f"{_MESSAGE}: {reason}", ImplicitGradientWarning, stacklevel=2)
        return adjoint

    def metrics(self) -> dict[str, float]:
        """The worst case over the batch, under the names that are logged."""
        if self.min_curvature is None or self.linear_residual is None or not len(self.stationarity):
            return {}
        assert self.linear_steps is not None
        assert self.failed is not None
        return {
            "ift/min_curvature": float(self.min_curvature.min()),
            "ift/linear_residual": float(self.linear_residual.max()),
            "ift/linear_steps": float(self.linear_steps.float().mean()),
            "ift/failures": float(self.failed.float().mean()),
        }
