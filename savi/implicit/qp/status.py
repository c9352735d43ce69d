"""How the solve of a quadratic program ended, one value per example, and how it is told."""

from __future__ import annotations

import warnings
from enum import IntEnum

import torch
from jaxtyping import Int
from torch import Tensor


class QPStatus(IntEnum):
    """The outcome of one example; ``advice`` says what to do about it."""

    SOLVED = 0
    INFEASIBLE = 1
    UNBOUNDED = 2
    NON_CONVEX = 3
    NOT_FINITE = 4
    MAX_STEPS = 5
    STALLED = 6

    @property
    def advice(self) -> str:
        """One sentence: what this outcome means, and what to change."""
        return _ADVICE[self]

    @property
    def label(self) -> str:
        """The name in lower case, in words."""
        return self.name.lower().replace("_", " ")


_ADVICE = {
    QPStatus.SOLVED: "The relative KKT residual is at most the tolerance.",
    QPStatus.INFEASIBLE: (
        "No x satisfies the constraints, as the ray (y, z) of the solution proves: relax h or b, "
        "or add slack variables that are penalised."
    ),
    QPStatus.UNBOUNDED: (
        "The objective falls for ever along the ray d of the solution: add curvature to Q, or "
        "constraints that bound x."
    ),
    QPStatus.NON_CONVEX: (
        "Q has negative curvature along directions that Ax = b allows: make Q positive "
        "semidefinite, as in Q = LLᵀ."
    ),
    QPStatus.NOT_FINITE: "A parameter is infinite or NaN: give finite numbers.",
    QPStatus.MAX_STEPS: "The steps ran out: raise max_steps or tolerance.",
    QPStatus.STALLED: (
        "Rounding errors keep the residual above the tolerance: bring the parameters to similar "
        "sizes, set h to inf where there is no bound, or raise tolerance."
    ),
}


class QPWarning(UserWarning):
    """Some quadratic programs of a batch have no solution."""


class QPError(RuntimeError):
    """As :class:`QPWarning`, under ``on_failure="raise"``."""


def report(status: Int[Tensor, " B"], on_failure: str) -> None:
    """Say in one sentence how many examples failed, how, and what to do.

    Raises:
        QPError: under ``raise``, if any example failed.
    """
    failed = status[status != QPStatus.SOLVED]
    if not len(failed):
        return
    kinds, counts = torch.unique(failed, return_counts=True)
    told = "; ".join(
        f"{count} {QPStatus(kind).label} ({QPStatus(kind).advice.rstrip('.')})"
        for kind, count in zip(kinds.tolist(), counts.tolist(), strict=True)
    )
    message = (
        f"{len(failed)} of {len(status)} quadratic programs have no solution here, their value is "
        f"NaN and their gradient 0: {told}"
    )
    if on_failure == "raise":
        raise QPError(message)
    warnings.warn(message, QPWarning, stacklevel=3)
