"""What an inner solve returns."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple, Protocol, Self

import torch

from savi.types import Counts, Mask, PerExample, Rows


class Point(NamedTuple):
    """An iterate with what is known there."""

    y: Rows
    value: PerExample
    gradient: Rows


class Certified(Protocol):
    """What a backend that checks its derivative says of it, as ``savi.gradients.Certificate``."""

    @property
    def failed(self) -> Mask | None:
        """Which examples have no derivative that can be trusted; None before the backward."""

    def metrics(self) -> dict[str, float]:
        """The worst case over the batch, under the names that are logged."""


class Explained(IntEnum):
    """An integer with a sentence: what it means for an example, and what to change."""

    advice: str

    def __new__(cls, code: int, advice: str) -> Self:
        """``NAME = code, advice`` in the body of a class."""
        member = int.__new__(cls, code)
        member._value_, member.advice = code, advice
        return member


_BETTER = "lower the step size, or use levenberg_marquardt, which cannot diverge."
_LIMIT = "the float type limits it (raise rtol, or use float64) or the objective has a kink."


class Status(Explained):
    """The outcome of the inner solve of one example; ``advice`` says what to do about it."""

    CONVERGED = 0, "The gradient fell below atol + rtol times its norm at the start."
    MAX_STEPS = (
        1,
        "The steps ran out before the gradient was small enough: raise max_steps, raise rtol, or "
        "use an optimiser with curvature such as levenberg_marquardt.",
    )
    STALLED = (
        2,
        "The optimiser could not lower the objective further although the gradient is not small: "
        + _LIMIT,
    )
    DIVERGED = (
        3,
        "The objective became non-finite or ended above its start, and the best iterate was "
        "returned: " + _BETTER,
    )


class Reason(Explained):
    """Why the inner solve of one example ended: its ``status``, as finely as the solver knows it.

    Those of a stall are what :meth:`savi.inner.InnerOptimizer.stalled` answers.
    """

    OUT_OF_STEPS = 0, Status.MAX_STEPS.advice
    NO_MOVEMENT = (
        1,
        "The last step changed no digit of λ although the gradient is not small: its size is too "
        "small for the float type (raise it or rtol, or use float64), or the curvature gave no "
        "step (use levenberg_marquardt).",
    )
    DAMPING_CEILING = (
        2,
        "No step lowered the objective, however much it was damped, although the gradient is not "
        "small: " + _LIMIT,
    )
    FAILED_LINE_SEARCH = (
        3,
        "No step along the search direction lowered the objective, however short, although the "
        "gradient is not small: " + _LIMIT,
    )
    SMALL_GRADIENT = 4, Status.CONVERGED.advice
    NOT_FINITE = (
        5,
        "The objective or its gradient became non-finite, and the best iterate was returned: if "
        "that is the start, look at it; else " + _BETTER,
    )
    ABOVE_START = (
        6,
        "The objective ended above its start, and the best iterate was returned: " + _BETTER,
    )

    @property
    def status(self) -> Status:
        """The outcome that it explains."""
        return _STATUS[self]


#: By reason.
_STATUS = (
    *(Status.MAX_STEPS, Status.STALLED, Status.STALLED, Status.STALLED),
    *(Status.CONVERGED, Status.DIVERGED, Status.DIVERGED),
)


@dataclass(frozen=True)
class Solution:
    """The solution of a batch of inner problems, one per example.

    Attributes:
        value: λK, shape [B, P]; differentiable as the gradient backend declares.
        reason: shape [B], integer values of :class:`savi.inner.Reason`: why the example stopped.
        steps: shape [B], inner steps taken until the example stopped.
        stationarity: shape [B], ‖∇J(λK)‖ / ‖∇J(λ0)‖ (0 where both vanish), with the KKT residual
            in place of ∇J where a constraint is active.
        objective: shape [B], J(λK), detached.
        multiplier: shape [B], the multiplier ν of a trust region, 0 where it is inactive, detached:
            it has no derivative, unlike λK; None for an unconstrained problem.
        certificate: the conditions of the implicit function theorem; only for ``ift``, and filled
            when the backward has run.
        start: λ0 with J and ∇J there, detached.
        state: the optimiser's state at the end, a tree of tensors with one row per example,
            detached.

    Where the last step was taken on trust and not measured, ``stationarity``, ``objective`` and
    ``multiplier`` are NaN.
    """

    value: Rows
    reason: Counts
    steps: Counts
    stationarity: PerExample
    objective: PerExample
    multiplier: PerExample | None = None
    certificate: Certified | None = None
    start: Point | None = None
    state: Any = None

    @property
    def status(self) -> Counts:
        """Shape [B], integer values of :class:`savi.Status`."""
        return torch.tensor(_STATUS, device=self.reason.device)[self.reason]

    def describe(self) -> str:
        """A line for each outcome that occurs: how many examples, and the advice."""
        counts = [(reason, int((self.reason == reason).sum())) for reason in Reason]
        return "\n".join(f"{n} {why.status.name}: {why.advice}" for why, n in counts if n)
