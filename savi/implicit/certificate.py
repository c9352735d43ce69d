"""Whether the conditions of the implicit function theorem hold: the verdict, and how it is told.

The theorem asks for a solution of F(x; θ) = 0, an F that is continuously differentiable there, and
a nonsingular Jacobian ∂F/∂x (J. Chiu, *Applications of the Implicit Function Theorem*, 2021,
section 2); a minimum asks for positive curvature besides. Every user of the theorem measures these
in its own way, and has them judged and told here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch

from savi.implicit.reporter import Finding
from savi.linear.base import LinearSolution, LinearStatus
from savi.types import Mask, PerExample

#: F must be linear to this factor over the distance that is left to the solution.
MAX_NONLINEARITY = 0.5

#: For what a few samples of F do not show.
SAFETY = 2.0


@dataclass(frozen=True)
class Verdict:
    """What every certificate says, per example.

    Attributes:
        kinks: the operations in F whose derivative jumps; with any, F is smooth only in pieces.
        degenerate: where an active constraint has a multiplier of 0, so that the solution has a
            kink; None without constraints.
        error_bound: an estimate of the relative error of the derivative, no proof.
        min_curvature: an estimate from above of the smallest curvature (along the active
            constraints, if any); None for a system of equations.
        broken: which examples break a condition, by the sentence about it; only those that occur.
    """

    kinks: tuple[str, ...]
    degenerate: Mask | None
    error_bound: PerExample
    min_curvature: PerExample | None
    broken: Mapping[str, Mask]

    @cached_property
    def failed(self) -> Mask:
        """Which examples break a condition."""
        return anywhere(self.broken, self.error_bound)

    @property
    def reasons(self) -> list[str]:
        """A sentence for each kind of failure that occurs."""
        return list(self.broken)

    def findings(self) -> list[Finding]:
        """What there is to say of each failure."""
        return [self.finding(kind, at) for kind, at in self.broken.items()]

    def finding(self, kind: str, at: Mask) -> Finding:
        """What there is to say of these examples, at least one."""
        return Finding(kind, int(at.sum()), len(at), float(self.error_bound[at].max()))


def anywhere(checks: Mapping[str, Mask], like: PerExample) -> Mask:
    """Which examples break any of the conditions."""
    if not checks:
        return torch.zeros_like(like, dtype=torch.bool)
    return torch.stack(list(checks.values())).any(dim=0)


def occurring(checks: Mapping[str, Mask]) -> dict[str, Mask]:
    """The conditions that some example breaks."""
    return {reason: broken for reason, broken in checks.items() if bool(broken.any())}


def linear_checks(linear: LinearSolution, max_residual: float) -> tuple[Mask, Mask, Mask]:
    """Where the matrix is not positive definite, where singular, and where it was not solved for.

    Args:
        linear: the solve of the adjoint system.
        max_residual: the largest relative residual that counts as solved.
    """
    singular = linear.status == LinearStatus.SINGULAR
    unsolved = ~(linear.residual <= max_residual) & ~singular
    return linear.status == LinearStatus.INDEFINITE, singular, unsolved
