"""Whether the implicit function theorem's conditions hold at a solution of F(x) = 0."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from savi.errors import unknown_option
from savi.gradients.certificate import (
    MAX_NONLINEARITY,
    ImplicitGradientError,
    ImplicitGradientWarning,
    SmoothnessNote,
)
from savi.implicit.nearby import MAX_JUMP

#: What can be done about an example that breaks a condition: use its derivative and warn, refuse
#: it, or answer with a derivative of 0.
POLICIES = ("warn", "raise", "mask")

#: Above this estimated error of the derivative an example fails.
MAX_ERROR = 1e-2

#: A solution that is further away, relative to its size, counts as none.
MAX_DISTANCE = 0.1

#: For what two Jacobians do not show.
SAFETY = 2.0

_MESSAGE = "implicit derivative without its conditions in some examples"


@dataclass(frozen=True)
class RootCertificate:
    """The conditions of the theorem for F(x; θ) = 0, per example.

    They are those of the report (J. Chiu, *Applications of the Implicit Function Theorem*, 2021,
    section 2): x is a solution point, F is continuously differentiable there, and J = ∂F/∂x is
    nonsingular. A constrained problem adds those that make a KKT point a strict minimum with a
    derivative: positive curvature along the constraints and strict complementarity.

    Attributes:
        residual: ‖F(x)‖.
        distance: ‖s‖ / max(1, ‖x‖) with the Newton step s = −J⁻¹F(x), an estimate of how far the
            solution is.
        condition: κ₁(J), the condition number of J in the 1-norm.
        error_bound: an estimate of the relative error of ∂x/∂θ,
            2 (‖J⁻¹(J(x + s) − J)‖ + distance) + P ε κ₁(J): what J bends on the way to the
            solution, what ∂F/∂θ may, and rounding. An estimate and no proof.
        kinks: the operations in F whose derivative jumps; with any, F is smooth only in pieces.
        degenerate: which examples have an active constraint with a multiplier of 0, so that the
            solution has a kink; None for a system of equations.
        min_curvature: the smallest eigenvalue of the Lagrangian's Hessian along the active
            constraints, infinite where they leave no direction; None for a system of equations.
        failed: which examples break a condition.
        reasons: a sentence for each kind of failure that occurs.
    """

    residual: Float[Tensor, " B"]
    distance: Float[Tensor, " B"]
    condition: Float[Tensor, " B"]
    error_bound: Float[Tensor, " B"]
    kinks: tuple[str, ...]
    degenerate: Bool[Tensor, " B"] | None
    min_curvature: Float[Tensor, " B"] | None
    failed: Bool[Tensor, " B"]
    reasons: list[str]

    def report(self, on_failure: str) -> None:
        """Say what is wrong, unless the policy takes care of it.

        Raises:
            ImplicitGradientError: under ``raise``, if any example failed.
        """
        text = f"{_MESSAGE}: {'; '.join(self.reasons)}"
        if self.reasons and on_failure == "raise":
            raise ImplicitGradientError(f"{text} ({int(self.failed.sum())} examples)")
        if self.reasons and on_failure == "warn":
            warnings.warn(text, ImplicitGradientWarning, stacklevel=4)
        if self.kinks:
            warnings.warn(
                f"F has operations with kinks ({', '.join(self.kinks)}): its implicit derivative "
                "is right inside a smooth piece, and says nothing of the others",
                SmoothnessNote,
                stacklevel=4,
            )


@dataclass(frozen=True)
class Measured:
    """What was measured at a solution.

    Attributes:
        residual: ‖F‖.
        distance: see :class:`RootCertificate`.
        bending: max(‖J⁻¹(J(x + s) − J)‖, Δ).
        condition: κ₁(J).
        singular: which J cannot be told from singular ones.
        finite: where F and J are finite.
        kinks: the operations with a kink.
        jump: how much a small step of x or θ changes the derivatives of F.
        rounding: ε κ₁(J), what rounding may do to the derivative.
    """

    residual: Float[Tensor, " B"]
    distance: Float[Tensor, " B"]
    bending: Float[Tensor, " B"]
    condition: Float[Tensor, " B"]
    singular: Bool[Tensor, " B"]
    finite: Bool[Tensor, " B"]
    kinks: tuple[str, ...]
    jump: Float[Tensor, " B"]
    rounding: Float[Tensor, " B"]


@dataclass(frozen=True)
class Conditions:
    """What a constrained problem asks for beyond the theorem, per example.

    Attributes:
        degenerate: an active constraint with a multiplier of 0.
        infeasible: a constraint that does not hold.
        min_curvature: see :class:`RootCertificate`.
        flat: the curvature that cannot be told from 0.
    """

    degenerate: Bool[Tensor, " B"]
    infeasible: Bool[Tensor, " B"]
    min_curvature: Float[Tensor, " B"]
    flat: Float[Tensor, " B"]


def judge(measured: Measured, conditions: Conditions | None = None) -> RootCertificate:
    """Turn measurements into a verdict."""
    error = SAFETY * measured.bending + measured.rounding
    regular = measured.finite & ~measured.singular
    solved = (measured.bending <= MAX_NONLINEARITY) & (measured.distance <= MAX_DISTANCE)
    smooth = measured.jump <= MAX_JUMP
    if conditions is not None:
        smooth = smooth & ~conditions.degenerate
    checks = {
        "F or its Jacobian is not finite at the solution": ~measured.finite,
        "the Jacobian ∂F/∂x is singular, so F = 0 fixes no solution": (
            measured.finite & measured.singular
        ),
        "F has a kink at the solution, where there is no derivative, or mixes its rows": (
            regular & ~(measured.jump <= MAX_JUMP)
        ),
        "the point given does not solve F = 0 (solve further)": regular & ~solved,
        "the estimated error of the derivative exceeds 1e-2 (solve further, or use float64)": (
            regular & solved & ~(error <= MAX_ERROR)
        ),
    }
    if conditions is not None:
        checks |= {
            "a constraint does not hold at the point given": conditions.infeasible,
            "a constraint is active with a multiplier of 0, where the solution has a kink": (
                conditions.degenerate
            ),
            "the curvature along the constraints is not positive, so the point is no strict "
            "minimum": measured.finite & ~(conditions.min_curvature > conditions.flat),
        }
    return RootCertificate(
        residual=measured.residual,
        distance=measured.distance,
        condition=measured.condition,
        error_bound=torch.where(regular & smooth, error, torch.inf),
        kinks=measured.kinks,
        degenerate=None if conditions is None else conditions.degenerate,
        min_curvature=None if conditions is None else conditions.min_curvature,
        failed=torch.stack(list(checks.values())).any(dim=0),
        reasons=[reason for reason, broken in checks.items() if bool(broken.any())],
    )


def require_policy(on_failure: str) -> None:
    """Refuse an unknown policy.

    Raises:
        InputError: with the known ones.
    """
    if on_failure not in POLICIES:
        raise unknown_option("on_failure", on_failure, POLICIES)
