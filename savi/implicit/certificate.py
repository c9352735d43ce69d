"""Whether the conditions of the implicit function theorem hold: the verdict, and how it is told.

The theorem asks for a solution of F(x; θ) = 0, an F that is continuously differentiable there, and
a nonsingular Jacobian ∂F/∂x (J. Chiu, *Applications of the Implicit Function Theorem*, 2021,
section 2); a minimum asks for positive curvature besides. Every user of the theorem measures these
in its own way, and has them judged and told here.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from savi.implicit.policy import HANDLED, OnFailure
from savi.linear.base import LinearSolution, LinearStatus
from savi.types import Mask, PerExample

#: F must be linear to this factor over the distance that is left to the solution.
MAX_NONLINEARITY = 0.5

#: For what a few samples of F do not show.
SAFETY = 2.0


class ImplicitGradientWarning(UserWarning):
    """An implicit gradient was taken where the theorem's conditions do not hold."""


class SmoothnessNote(UserWarning):
    """F is smooth only in pieces; said once a run."""


class ImplicitGradientError(RuntimeError):
    """As :class:`ImplicitGradientWarning`, under ``on_failure: raise``."""


#: What a certificate says in words.
CERTIFICATE_WARNINGS = (ImplicitGradientWarning, SmoothnessNote)


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
        failed: which examples break a condition.
        reasons: a sentence for each kind of failure that occurs.
    """

    kinks: tuple[str, ...]
    degenerate: Mask | None
    error_bound: PerExample
    min_curvature: PerExample | None
    failed: Mask
    reasons: list[str]


def judge(checks: Mapping[str, Mask]) -> tuple[Mask, list[str]]:
    """Which examples break any of the conditions, and a sentence for each that is broken.

    Args:
        checks: where each is broken, by the sentence that says so.
    """
    failed = torch.stack(list(checks.values())).any(dim=0)
    return failed, [reason for reason, broken in checks.items() if bool(broken.any())]


def linear_checks(linear: LinearSolution, max_residual: float) -> tuple[Mask, Mask, Mask]:
    """Where the matrix is not positive definite, where singular, and where it was not solved for.

    Args:
        linear: the solve of the adjoint system.
        max_residual: the largest relative residual that counts as solved.
    """
    singular = linear.status == LinearStatus.SINGULAR
    unsolved = ~(linear.residual <= max_residual) & ~singular
    return linear.status == LinearStatus.INDEFINITE, singular, unsolved


@dataclass(frozen=True)
class Reporter:
    """Tells what a certificate has found.

    Attributes:
        message: what comes before a reason.
        subject: what may have kinks.
        derivative: what is then right inside a smooth piece.
    """

    message: str
    subject: str
    derivative: str

    def __call__(
        self,
        policy: OnFailure,
        reasons: Sequence[str],
        kinks: Sequence[str],
        examples: int,
        remarks: Sequence[str] = (),
    ) -> None:
        """Warn of each reason, unless the policy takes care of it; and of the kinks.

        Args:
            policy: what is done about failed examples.
            reasons: why they failed.
            kinks: the operations with kinks.
            examples: how many failed; 0 where there is only one.
            remarks: what is told under every policy but ``silent``, and is no failure.

        Raises:
            ImplicitGradientError: under ``raise``, if there is a reason.
        """
        if policy is OnFailure.SILENT:
            return
        if reasons and policy is OnFailure.RAISE:
            told = "; ".join(reasons)
            count = f" ({examples} examples)" if examples else ""
            raise ImplicitGradientError(f"{self.message}: {told}{count}")
        # The texts hold no numbers, so that Python shows each kind once a run.
        for text in (*(() if policy in HANDLED else reasons), *remarks):
            warnings.warn(f"{self.message}: {text}", ImplicitGradientWarning, stacklevel=3)
        if kinks:
            warnings.warn(
                f"{self.subject} has operations with kinks ({', '.join(kinks)}): its "
                f"{self.derivative} is right inside a smooth piece, and says nothing of the others "
                "(the activations softplus and tanh have none)",
                SmoothnessNote,
                stacklevel=3,
            )
