"""What the iterative solvers share: stopping rule, preconditioner, restarts and verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from savi.errors import InputError, require_at_least
from savi.linear.base import (
    LinearSolution,
    LinearSolver,
    LinearStatus,
    SymmetricOperator,
    dot,
    norm,
    true_residual,
)
from savi.linear.dense import by_cholesky, multiply, safe_cholesky


@dataclass(frozen=True)
class IterativeSolver(LinearSolver):
    """A solver that works by products with H.

    Args:
        rtol: stop an example at ‖H u − v‖ ≤ rtol ‖v‖.
        max_steps: at most so many steps; None means 2P, twice what exact arithmetic needs.

    Raises:
        InputError: unless ``rtol`` is above 0 and ``max_steps`` 1 or more.
    """

    rtol: float = 1e-5
    max_steps: int | None = None

    def __post_init__(self) -> None:
        if not self.rtol > 0:
            raise InputError(f"gradient.rtol is {self.rtol}: set it above 0")
        if self.max_steps is not None:
            require_at_least("gradient.max_steps", self.max_steps, 1)

    @classmethod
    def configured(cls, rtol: float, max_steps: int | None) -> LinearSolver:
        """The solver with this stopping rule."""
        return cls(rtol=rtol, max_steps=max_steps)

    def step_limit(self, size: int) -> int:
        """``max_steps``, or its default for blocks of this size."""
        return self.max_steps or 2 * size


def gauss_newton_preconditioner(
    operator: SymmetricOperator,
) -> Callable[[Tensor], Tensor]:
    """Return r ↦ C⁻¹ r for the Gauss–Newton matrix C where that is usable, else r ↦ r."""
    if operator.preconditioner is None:
        return lambda r: r
    factor, _ = safe_cholesky(operator.preconditioner())
    return lambda r: by_cholesky(factor, r)


def curvature_along(
    p: Float[Tensor, "B P"], hp: Float[Tensor, "B P"], scale: Float[Tensor, " B"]
) -> tuple[Float[Tensor, " B"], Bool[Tensor, " B"], Float[Tensor, " B"]]:
    """Return pᵀHp / pᵀp, whether it is positive, and the largest ‖Hp‖ / ‖p‖ so far.

    A curvature below ε times the largest scale of H that was met is rounding and counts as 0: it
    would divide the residual by noise. A NaN is not positive.
    """
    tiny = torch.finfo(p.dtype).tiny
    along = dot(p, hp) / dot(p, p).clamp_min(tiny)
    scale = scale.maximum(norm(hp) / norm(p).clamp_min(tiny))
    return along, along > torch.finfo(p.dtype).eps * scale, scale


def verdict(
    operator: SymmetricOperator,
    rhs: Float[Tensor, "B P"],
    u: Float[Tensor, "B P"],
    steps: Int[Tensor, " B"],
    indefinite: Bool[Tensor, " B"],
    curvature: Float[Tensor, " B"],
    rtol: float,
) -> LinearSolution:
    """The iterate u with its recomputed residual, and the status that follows from it."""
    size = torch.linalg.vector_norm(rhs, dim=-1)
    residual = true_residual(operator.matvec(u), rhs)
    # The recurrences drift from the true residual by rounding, so a factor is allowed.
    solved = residual <= 10.0 * rtol * size
    status = torch.where(solved, LinearStatus.SOLVED, LinearStatus.MAX_STEPS).long()
    status[indefinite] = LinearStatus.INDEFINITE
    # As the direct solvers answer a block that is not finite.
    broken = ~torch.isfinite(residual)
    status[broken] = LinearStatus.SINGULAR
    return LinearSolution(
        torch.where(broken.unsqueeze(-1), 0.0, u),
        torch.where(broken, size, residual),
        steps,
        status,
        torch.where(broken, torch.nan, curvature),
    )


@dataclass(frozen=True)
class Correction:
    """What one cycle of a restarted solver adds for each example.

    Attributes:
        value: the correction to u, shape [B, P]; 0 for an example that is not active.
        steps: steps taken, shape [B].
        indefinite: whether a direction of non-positive curvature was met, shape [B].
        curvature: the smallest curvature met, shape [B].
    """

    value: Float[Tensor, "B P"]
    steps: Int[Tensor, " B"]
    indefinite: Bool[Tensor, " B"]
    curvature: Float[Tensor, " B"]


#: (true residual r [B, P], active [B], target ‖·‖ [B], steps left [B]) -> the correction H⁻¹r.
Cycle = Callable[[Tensor, Tensor, Tensor, Tensor], Correction]


def restarted(
    cycle: Cycle,
    operator: SymmetricOperator,
    rhs: Float[Tensor, "B P"],
    rtol: float,
    max_steps: int,
) -> LinearSolution:
    """Correct u by cycles that start from the true residual.

    An example goes on while a cycle reduces its residual, that is above its target, and it has
    steps left; a correction that does not reduce it is dropped, so that nothing diverges.
    """
    u, r = torch.zeros_like(rhs), rhs
    residual = torch.linalg.vector_norm(rhs, dim=-1)
    target = rtol * residual
    steps = torch.zeros_like(residual, dtype=torch.long)
    indefinite = torch.zeros_like(residual, dtype=torch.bool)
    curvature = torch.full_like(residual, torch.inf)
    active = residual > target
    while active.any():
        correction = cycle(r, active, target, max_steps - steps)
        candidate = u + correction.value
        remaining = rhs - operator.matvec(candidate)
        size = torch.linalg.vector_norm(remaining, dim=-1)
        better = active & (size < residual)
        u = torch.where(better.unsqueeze(-1), candidate, u)
        r = torch.where(better.unsqueeze(-1), remaining, r)
        residual = torch.where(better, size, residual)
        steps = steps + correction.steps
        indefinite = indefinite | correction.indefinite
        curvature = curvature.minimum(correction.curvature)
        active = better & (residual > target) & (steps < max_steps)
    return verdict(operator, rhs, u, steps, indefinite, curvature, rtol)


def divide(
    v: Float[Tensor, "B P"], size: Float[Tensor, " B"], where: Bool[Tensor, " B"]
) -> Float[Tensor, "B P"]:
    """Take v / size where asked for, and 0 elsewhere."""
    safe = torch.where(where, size, 1.0).unsqueeze(-1)
    return torch.where(where.unsqueeze(-1), v / safe, 0.0)


def orthogonalise(
    basis: Float[Tensor, "B M P"], w: Float[Tensor, "B P"]
) -> tuple[Float[Tensor, "B P"], Float[Tensor, "B M"], Float[Tensor, " B"], Bool[Tensor, " B"]]:
    """Split w into a part in the basis and a rest: (rest, coefficients, ‖rest‖, worth keeping).

    Two passes of Gram–Schmidt leave orthogonality at rounding level, which the short recurrences
    of Lanczos lose in float32; P is small, so a full basis costs little. A rest that rounding
    alone can explain (the Krylov space is exhausted) is given the norm 0, and is not worth
    keeping.
    """
    size = norm(w)
    coefficients = torch.zeros_like(basis[..., 0])
    for _ in range(2):
        part = multiply(basis, w)
        w = w - multiply(basis.mT, part)
        coefficients = coefficients + part
    rest = norm(w)
    kept = rest > w.shape[-1] * torch.finfo(w.dtype).eps * size
    return w, coefficients, torch.where(kept, rest, 0.0), kept
