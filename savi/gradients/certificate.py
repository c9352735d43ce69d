"""Whether the implicit function theorem's conditions held at the point that was differentiated."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from enum import Enum

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from savi.gradients.probe import Probe
from savi.linear.base import LinearSolution, LinearSolver, LinearStatus
from savi.linear.dense import finite_blocks, multiply

_MESSAGE = "implicit gradient without its conditions in some examples (ift/failures)"
_INACCURATE = (
    "the estimated error exceeds gradient.max_error (raise inner.max_steps, lower inner.rtol, or "
    "raise gradient.max_error)"
)

#: An error bound below it makes up for a gradient that is not small beside that at λ0.
CLOSE = 1e-2

#: F must be linear to this factor over the distance that is left to the solution.
MAX_NONLINEARITY = 0.5


class ImplicitGradientWarning(UserWarning):
    """An implicit gradient was taken where the theorem's conditions do not hold."""


class SmoothnessNote(UserWarning):
    """The inner objective is smooth only in pieces; said once a run."""


class ImplicitGradientError(RuntimeError):
    """As :class:`ImplicitGradientWarning`, under ``on_failure: raise``."""


#: What a certificate says in words.
CERTIFICATE_WARNINGS = (ImplicitGradientWarning, SmoothnessNote)


@dataclass
class Certificate:
    """The conditions of the theorem, per example; those after ``kinks`` are filled by the backward.

    For F(λ; θ) = ∇_λ J = 0 the theorem asks for a solution point (stationarity ‖F‖ small), for an
    F that is continuously differentiable there, and for a nonsingular Jacobian H = ∂F/∂λ; a
    minimum asks H to be positive definite. An example with a zero cotangent needs no derivative
    and never fails.

    Attributes:
        stationarity: ‖F(λK)‖ / ‖F(λ0)‖, with the KKT residual as F under a constraint.
        max_stationarity: above it an example counts as not solved, unless it is close to the
            solution all the same (a warm start, whose ‖F(λ0)‖ is small).
        max_residual: above it a linear system counts as not solved.
        max_error: above it an example counts as inaccurate.
        degenerate: where a constraint is active with a multiplier of 0, so that λ* has a kink.
        kinks: the operations in J whose derivative jumps; with any, F is smooth only in pieces.
        min_curvature: an estimate from above of the smallest eigenvalue of H.
        linear_residual: ‖H u − v‖ / ‖v‖ of the adjoint system.
        linear_steps: iterations of the linear solver.
        error_bound: an estimate of the relative error of the gradient
            (:func:`savi.gradients.probe.probe`).
        failed: which examples break a condition.
        inaccurate: which examples break none, and have an error bound above ``max_error``.
        reasons: a sentence for each kind of failure that occurs.
    """

    stationarity: Float[Tensor, " B"]
    max_stationarity: float
    max_residual: float
    max_error: float
    degenerate: Bool[Tensor, " B"] | None = None
    kinks: tuple[str, ...] = ()
    min_curvature: Float[Tensor, " B"] | None = None
    linear_residual: Float[Tensor, " B"] | None = None
    linear_steps: Int[Tensor, " B"] | None = None
    error_bound: Float[Tensor, " B"] | None = None
    failed: Bool[Tensor, " B"] | None = None
    inaccurate: Bool[Tensor, " B"] | None = None
    reasons: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether the backward has run."""
        return self.failed is not None

    @property
    def smooth(self) -> bool:
        """Whether J has no operation that is known to have a kink."""
        return not self.kinks

    def fill(
        self, linear: LinearSolution, probe: Probe, solver: LinearSolver, v: Float[Tensor, "B P"]
    ) -> None:
        """Record the adjoint solve and judge each example.

        Args:
            linear: the solve.
            probe: what was seen near the solution.
            solver: what solved.
            v: the cotangent.
        """
        singular = linear.status == LinearStatus.SINGULAR
        checks = {
            "the inner problem is not solved (raise inner.max_steps, or use a better optimiser)": (
                ~(self.stationarity <= self.max_stationarity) & ~(probe.error_bound <= CLOSE)
            ),
            "the Hessian is not positive definite, so λK is no strict minimum": (
                linear.status == LinearStatus.INDEFINITE
            ),
            "the Hessian is singular or not finite": singular,
            _residual_reason(solver): ~(linear.residual <= self.max_residual) & ~singular,
            "the constraint is only just active, where the solution has a kink": (
                torch.zeros_like(singular) if self.degenerate is None else self.degenerate
            ),
        }
        # Only of the others is it known which step would lead to the solution.
        broken = torch.stack(list(checks.values())).any(dim=0)
        checks[
            "the gradient of the objective jumps or bends near λK (a kink, or too few steps)"
        ] = ~broken & ~(probe.nonlinearity <= MAX_NONLINEARITY)
        needed = (v != 0).any(dim=-1)
        checks = {reason: broken & needed for reason, broken in checks.items()}
        self.min_curvature = linear.min_curvature
        self.linear_residual = linear.residual
        self.linear_steps = linear.steps
        self.error_bound = probe.error_bound
        self.failed = torch.stack(list(checks.values())).any(dim=0)
        self.inaccurate = ~self.failed & needed & ~(probe.error_bound <= self.max_error)
        self.reasons = [reason for reason, broken in checks.items() if bool(broken.any())]

    def report(self, on_failure: OnFailure) -> None:
        """Say what is wrong, unless the policy takes care of it.

        Raises:
            ImplicitGradientError: under ``raise``, if any example failed or is inaccurate.
        """
        assert self.failed is not None
        assert self.inaccurate is not None
        told = [] if on_failure in HANDLED else list(self.reasons)
        if bool(self.inaccurate.any()):
            told.append(_INACCURATE)
        if told and on_failure is OnFailure.RAISE:
            count = int((self.failed | self.inaccurate).sum())
            raise ImplicitGradientError(f"{_MESSAGE}: {'; '.join(told)} ({count} examples)")
        # The texts hold no numbers, so that Python shows each kind once a run.
        for reason in told:
            warnings.warn(f"{_MESSAGE}: {reason}", ImplicitGradientWarning, stacklevel=2)
        if self.kinks:
            warnings.warn(
                f"the inner objective has operations with kinks ({', '.join(self.kinks)}): its "
                "implicit gradient is right inside a smooth piece, and says nothing of the others "
                "(model.activation=softplus or tanh has none)",
                SmoothnessNote,
                stacklevel=2,
            )

    def metrics(self) -> dict[str, float]:
        """The worst case over the batch, under the names that are logged.

        The error bound is the worst among the examples that did not fail: it says nothing of
        those that did, which ``ift/failures`` counts.
        """
        if self.failed is None or not len(self.stationarity):
            return {}
        assert self.min_curvature is not None
        assert self.linear_residual is not None
        assert self.linear_steps is not None
        assert self.error_bound is not None
        metrics = {
            "ift/min_curvature": float(self.min_curvature.min()),
            "ift/linear_residual": float(self.linear_residual.max()),
            "ift/linear_steps": float(self.linear_steps.float().mean()),
            "ift/failures": float(self.failed.float().mean()),
        }
        if not self.failed.all():
            metrics["ift/error_bound"] = float(self.error_bound[~self.failed].max())
        return metrics


def _residual_reason(solver: LinearSolver) -> str:
    """What a large residual of this solver means, and what to do about it."""
    if solver.biased:
        return (
            "the Gauss–Newton matrix is not the Hessian, which biases the gradient (set "
            "gradient.solver=cholesky)"
        )
    if solver.direct:
        return "the Hessian is too ill-conditioned for the float type (use float64)"
    return "the linear solver did not converge (raise gradient.max_steps or gradient.rtol)"


#: The damping δ of :func:`damped`, as a fraction of the largest eigenvalue.
DAMPING = 1e-2


class OnFailure(Enum):
    """The policies: what becomes of the correction −H⁻¹v of a failed example.

    ``warn`` uses it and warns; ``raise`` raises; ``mask`` drops it, which leaves the direct
    gradient; ``damp`` replaces it by that of a regularised problem (:func:`damped`); ``fallback``
    differentiates the steps that were taken instead (``unrolled``, recomputed).
    """

    WARN = "warn"
    RAISE = "raise"
    MASK = "mask"
    DAMP = "damp"
    FALLBACK = "fallback"


#: The policies that need no warning about failed examples, because something is done about them.
HANDLED = frozenset({OnFailure.MASK, OnFailure.DAMP, OnFailure.FALLBACK})


def damped(
    hessian: Float[Tensor, "B P P"], v: Float[Tensor, "B P"], failed: Bool[Tensor, " B"]
) -> Float[Tensor, "B P"]:
    """(H + τI)⁻¹v for the failed examples, τ = max(0, −λ_min) + δ max|λ|; 0 for the others.

    The implicit gradient of the problem with ½τ‖λ − λK‖² added, which has a strict minimum where H
    has negative or no curvature. It is biased towards 0. A block that is not finite, or is 0, is
    answered with 0.
    """
    u = torch.zeros_like(v)
    usable = failed & finite_blocks(hessian) & torch.isfinite(v).all(dim=-1)
    if not usable.any():
        return u
    eigenvalues, q = torch.linalg.eigh(hessian[usable])
    largest = eigenvalues.abs().amax(dim=-1, keepdim=True)
    shift = (-eigenvalues[:, :1]).clamp_min(0.0) + DAMPING * largest
    rotated = multiply(q.mT, v[usable])
    scaled = torch.where(largest > 0, rotated / (eigenvalues + shift), torch.zeros_like(rotated))
    u[usable] = multiply(q, scaled)
    return u
