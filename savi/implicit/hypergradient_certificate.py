"""Whether the implicit function theorem's conditions hold for the best response of weights."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from savi.errors import unknown_option
from savi.gradients.certificate import (
    ImplicitGradientError,
    ImplicitGradientWarning,
    SmoothnessNote,
)
from savi.linear import LinearStatus

#: What can be done about a broken condition: say so, refuse, or leave it to the certificate.
POLICIES = ("warn", "raise", "silent")


@dataclass(frozen=True)
class HypergradientCertificate:
    """The conditions of the theorem for w*(h) = argmin_w inner(w, h) at the weights w given.

    The theorem asks for F(w, h) = ∇_w inner = 0, for an F that is continuously differentiable, and
    for a nonsingular H = ∇²_w inner; a minimum asks H to be positive definite. An iterative solver
    meets a few directions only: that none of them has negative curvature is no proof.

    Attributes:
        stationarity: ‖∇_w inner‖.
        relative_stationarity: ‖∇_w inner‖ / ‖H w‖, of all weights together: far smaller ones than
            the others may be untrained unseen. For a quadratic inner, H w is the gradient at
            w less that at 0: this is then the stationarity relative to the start w = 0.
        outer_shift: −(∇_w inner)ᵀ H⁻¹ ∇_w outer, by how much outer would change, to first order, if
            the weights went on to the minimum; in the units of outer.
        linear_residual: ‖(H + δI) u − v‖ / ‖v‖ of the system that was solved, with v = ∇_w outer
            and the damping δ.
        damping_residual: δ ‖u‖ / ‖v‖, what the damping leaves of the system without it: its bias.
        linear_steps: iterations of the linear solver; 0 for a direct one.
        status: how it ended.
        min_curvature: an estimate from above of the smallest eigenvalue of H, without δ.
        kinks: the operations in inner whose derivative jumps; with any, F is smooth only in pieces.
        unmoved: the positions in ``hyper`` of what ∇_w inner does not depend on: the weights do not
            respond to it.
        reasons: a sentence for each condition that is broken.
        biases: a sentence for each way in which the damping decides the answer, which is no
            failure: the damping was asked for.
    """

    stationarity: float
    relative_stationarity: float
    outer_shift: float
    linear_residual: float
    damping_residual: float
    linear_steps: int
    status: LinearStatus
    min_curvature: float
    kinks: tuple[str, ...]
    unmoved: tuple[int, ...]
    reasons: tuple[str, ...]
    biases: tuple[str, ...]

    @property
    def failed(self) -> bool:
        """Whether a condition is broken."""
        return bool(self.reasons)

    def report(self, on_failure: str) -> None:
        """Say what is wrong, by the policy.

        Raises:
            ImplicitGradientError: under ``raise``, if a condition is broken.
        """
        text = "hypergradient without its conditions: "
        if self.reasons and on_failure == "raise":
            raise ImplicitGradientError(text + "; ".join(self.reasons))
        told = self.reasons + self.biases
        if told and on_failure != "silent":
            warnings.warn(text + "; ".join(told), ImplicitGradientWarning, stacklevel=3)
        if self.kinks and on_failure != "silent":
            warnings.warn(
                f"inner has operations with kinks ({', '.join(self.kinks)}): its hypergradient is "
                "right inside a smooth piece, and says nothing of the others",
                SmoothnessNote,
                stacklevel=3,
            )


def reasons(
    *,
    relative_stationarity: float,
    max_stationarity: float,
    linear_residual: float,
    max_residual: float,
    status: LinearStatus,
    unmoved: Sequence[int],
) -> tuple[str, ...]:
    """A sentence for each condition that is broken."""
    singular = status == LinearStatus.SINGULAR
    checks = {
        "the weights are no stationary point of inner (train them further)": (
            not relative_stationarity <= max_stationarity
        ),
        "the Hessian of inner is not positive definite, so that the weights are no minimum (train "
        "them further, or raise damping)": status == LinearStatus.INDEFINITE,
        "the Hessian of inner is singular or not finite (raise damping, or add a weight decay)": (
            singular
        ),
        "the linear system is not solved (raise max_steps, damping or rtol)": (
            not singular and not linear_residual <= max_residual
        ),
    }
    found = [reason for reason, broken in checks.items() if broken]
    if unmoved:
        which = ", ".join(f"hyper[{index}]" for index in unmoved)
        found.append(
            f"the gradient of inner does not depend on {which}, to which the weights do not respond"
        )
    return tuple(found)


def biases(damping: float, damping_residual: float, min_curvature: float) -> tuple[str, ...]:
    """A sentence for each way in which the damping decides the answer."""
    checks = {
        "the damping leaves more than half of the system unsolved (lower it: the answer is close "
        "to the direct part)": damping_residual > 0.5,
        "the Hessian has negative curvature that the damping hides (train the weights further)": (
            damping > 0 and min_curvature < 0
        ),
    }
    return tuple(reason for reason, found in checks.items() if found)


def ratio(value: float, scale: float) -> float:
    """The quotient value / scale, where 0 / 0 is 0 and anything else over 0 infinite."""
    if scale == 0.0:
        return 0.0 if value == 0.0 else math.inf
    return value / scale


def require_policy(on_failure: str) -> None:
    """Refuse an unknown policy.

    Raises:
        InputError: with the known ones.
    """
    if on_failure not in POLICIES:
        raise unknown_option("on_failure", on_failure, POLICIES)
