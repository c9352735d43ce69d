"""Whether the implicit function theorem's conditions hold for the best response of weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from savi.implicit.certificate import SAFETY, linear_checks, occurring
from savi.implicit.policy import OnFailure
from savi.implicit.reporter import Finding, Reporter
from savi.implicit.weight_hessian import WeightHessian, or_zeros
from savi.linear import LinearSolution, LinearSolver, LinearStatus
from savi.types import Rows, Scalar

_REPORT = Reporter("hypergradient without its conditions", "inner", "hypergradient")


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
        error_bound: an estimate of the relative error of the answer, no proof: twice what a Newton
            step to the minimum changes of it, to first order, relative to its direct part or that
            through w*, the larger, and the worst over h, with what the damping and the solver leave
            unsolved. 0 where any error is allowed.
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
        biases: a sentence for each way in which the answer may be off although no condition is
            broken: the damping decides it, or the estimated error is too large.
    """

    stationarity: float
    relative_stationarity: float
    outer_shift: float
    error_bound: float
    linear_residual: float
    damping_residual: float
    linear_steps: int
    status: LinearStatus
    min_curvature: float
    kinks: tuple[str, ...]
    unmoved: tuple[int, ...]
    reasons: list[str]
    biases: list[str]

    @property
    def failed(self) -> bool:
        """Whether a condition is broken."""
        return bool(self.reasons)

    def report(self, policy: OnFailure) -> None:
        """Say what is wrong, by the policy.

        Raises:
            ImplicitGradientError: under ``raise``, if a condition is broken.
        """
        raising = policy is OnFailure.RAISE
        reasons = [Finding(kind, error=self.error_bound) for kind in self.reasons]
        biases = [Finding(kind, error=self.error_bound) for kind in self.biases]
        if raising:
            _REPORT(policy, reasons, self.kinks, remarks=biases)
        else:
            _REPORT(policy, [*reasons, *biases], self.kinks)


@dataclass(frozen=True)
class Limits:
    """What passes: relative stationarity, linear residual and estimated error."""

    max_stationarity: float
    max_residual: float
    max_error: float


@dataclass(frozen=True)
class Answer:
    """What was asked, and the two parts of the answer, one tensor for each of h.

    Attributes:
        outer: the loss, with its graph.
        hyper: h.
        direct: ∂outer/∂h.
        response: −(∂∇_w inner/∂h)ᵀu; None where ∇_w inner does not depend on it.
    """

    outer: Scalar
    hyper: Sequence[Tensor]
    direct: Sequence[Tensor | None]
    response: Sequence[Tensor | None]

    @property
    def sizes(self) -> list[float]:
        """Of the larger part of each."""
        direct, response = (or_zeros(part, self.hyper) for part in (self.direct, self.response))
        return [
            max(float(a.norm()), float(b.norm())) for a, b in zip(direct, response, strict=True)
        ]


def certify(
    hessian: WeightHessian,
    linear: LinearSolution,
    v: Rows,
    answer: Answer,
    solver: LinearSolver,
    limits: Limits,
) -> HypergradientCertificate:
    """Measure and judge.

    Args:
        hessian: H at w.
        linear: the solve for u = (H + δI)⁻¹v.
        v: ∇_w outer.
        answer: what came of it.
        solver: what solved.
        limits: what passes.
    """
    gradient, u = hessian.residual.detach(), linear.value
    scale = hessian.hessian_vector_product(hessian.point)
    relative = _ratio(gradient, scale)
    trained = relative <= 8.0 * torch.finfo(v.dtype).eps
    indefinite, singular, unsolved = linear_checks(linear, limits.max_residual)
    unmoved = tuple(index for index, part in enumerate(answer.response) if part is None)
    which = ", ".join(f"hyper[{index}]" for index in unmoved)
    reasons = occurring(
        {
            "the weights are no stationary point of inner (train them further)": torch.tensor(
                [not relative <= limits.max_stationarity]
            ),
            "the Hessian of inner is not positive definite, so that the weights are no minimum "
            "(train them further, or raise damping)": indefinite.cpu(),
            "the Hessian of inner is singular or not finite (raise damping, or add a weight "
            "decay)": singular.cpu(),
            "the linear system is not solved (raise max_steps, damping or rtol)": unsolved.cpu(),
            f"the gradient of inner does not depend on {which}, to which the weights do not "
            "respond": torch.tensor([bool(unmoved)]),
        }
    )
    error = 0.0
    if limits.max_error < math.inf and not reasons:
        error = _error(hessian, linear, v, answer, solver, trained)
    damped = _ratio(hessian.damping * u, v)
    curvature = float(linear.min_curvature) - hessian.damping
    biases = {
        "the damping leaves more than half of the system unsolved (lower it: the answer is close "
        "to the direct part)": damped > 0.5,
        "the Hessian has negative curvature that the damping hides (train the weights further)": (
            hessian.damping > 0 and curvature < 0
        ),
        "the estimated error exceeds max_error (train the weights further, lower the damping, or "
        "raise it)": (not error <= limits.max_error),
    }
    return HypergradientCertificate(
        stationarity=float(gradient.norm()),
        relative_stationarity=relative,
        outer_shift=-float((gradient * u).sum()),
        error_bound=error,
        linear_residual=float(linear.residual),
        damping_residual=damped,
        linear_steps=int(linear.steps),
        status=LinearStatus(int(linear.status)),
        min_curvature=curvature,
        kinks=hessian.kinks(),
        unmoved=unmoved,
        reasons=list(reasons),
        biases=[bias for bias, found in biases.items() if found],
    )


def _error(
    hessian: WeightHessian,
    linear: LinearSolution,
    v: Rows,
    answer: Answer,
    solver: LinearSolver,
    trained: bool,
) -> float:
    """See ``error_bound``.

    With u = H⁻¹∇_w outer the answer is ∂outer/∂h − (∂∇_w inner/∂h)ᵀu. Along a step s both change by
    what :meth:`WeightHessian.changes` finds at constant u; and u by −H⁻¹ of what is left there of
    Hu − ∇_w outer, of which the damping and the solver leave something at s = 0 already.
    """

    def inverse(r: Rows) -> Rows:
        return solver(hessian.operator(), r).value if linear.inverse is None else linear.inverse(r)

    u = linear.value
    left, drift = hessian.hessian_vector_product(u) - v, [torch.zeros_like(h) for h in answer.hyper]
    if not trained:
        step = -inverse(hessian.residual.detach())
        try:
            bending, drift = hessian.changes(answer.outer, answer.hyper, u, step)
        except RuntimeError:
            # A loss whose backward cannot be differentiated again: how far off it is nobody knows.
            return math.inf
        left = left + bending
    moved = or_zeros(hessian.pull_back(answer.hyper, inverse(left)), answer.hyper)
    return SAFETY * max(
        _quotient(float((a - b).norm()), size)
        for a, b, size in zip(drift, moved, answer.sizes, strict=True)
    )


def _ratio(value: Tensor, scale: Tensor) -> float:
    """The quotient of the norms."""
    return _quotient(float(value.norm()), float(scale.norm()))


def _quotient(size: float, unit: float) -> float:
    """Where 0 / 0 is 0, and anything else over 0 infinite, as what is not a number is."""
    if unit == 0.0:
        return 0.0 if size == 0.0 else math.inf
    quotient = size / unit
    return math.inf if math.isnan(quotient) else quotient
