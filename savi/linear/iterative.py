"""What the iterative solvers share: stopping rule, preconditioner, restarts and verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from savi.linear.base import (
    LinearSolution,
    LinearSolver,
    LinearStatus,
    SymmetricOperator,
    dot,
    norm,
    rounding,
    true_residual,
)
from savi.linear.dense import by_cholesky, multiply, safe_cholesky
from savi.settings import setting
from savi.types import Counts, Mask, PerExample, Rows


@dataclass(frozen=True)
class IterativeSolver(LinearSolver):
    """A solver that works by products with H.

    Args:
        rtol: stop an example at ‖H u − v‖ ≤ rtol ‖v‖.
        max_steps: at most so many steps; None means 2P, twice what exact arithmetic needs.

    Raises:
        InputError: unless ``rtol`` is above 0 and ``max_steps`` 1 or more.
    """

    rtol: float = setting(1e-5, above=0)
    max_steps: int | None = setting(None, at_least=1)

    @classmethod
    def configured(cls, rtol: float, max_steps: int | None) -> LinearSolver:
        """The solver with this stopping rule."""
        return cls(rtol=rtol, max_steps=max_steps)

    def rough(self) -> LinearSolver:
        """A few steps to a tenth."""
        return replace(self, rtol=0.1, max_steps=8)

    def step_limit(self, size: int) -> int:
        """``max_steps``, or its default for blocks of this size."""
        return self.max_steps or 2 * size


def gauss_newton_preconditioner(operator: SymmetricOperator) -> Callable[[Tensor], Tensor]:
    """Return r ↦ C⁻¹ r for the Gauss–Newton matrix C where that is usable, else r ↦ r."""
    if operator.preconditioner is None:
        return lambda r: r
    factor, _ = safe_cholesky(operator.preconditioner())
    return lambda r: by_cholesky(factor, r)


def gain(p: Rows, hp: Rows) -> PerExample:
    """‖Hp‖ / ‖p‖, at most the largest |eigenvalue| of H."""
    return norm(hp) / norm(p).clamp_min(torch.finfo(p.dtype).tiny)


def curvature_along(p: Rows, hp: Rows) -> PerExample:
    """pᵀHp / pᵀp, which may be rounding beside the scale of H; NaN if Hp is not finite."""
    return dot(p, hp) / dot(p, p).clamp_min(torch.finfo(p.dtype).tiny)


def better(size: PerExample, than: PerExample, move: Rows, scale: PerExample) -> Mask:
    """Whether what a move takes of a residual, down to ``size``, is worth its length.

    The rounding δ of H move must be below ρ² for the relative reduction ρ of the residual, so that
    half the digits of ρ are no rounding. Moves along the null space of a singular H, which grow
    without bound, fail; of a regular system all pass in the end, where ρ tends to 1.
    """
    error = rounding(move.shape[-1], scale) * norm(move) / than
    return (1.0 - size / than).clamp_min(0.0).square() > error


def verdict(
    operator: SymmetricOperator,
    rhs: Rows,
    u: Rows,
    steps: Counts,
    indefinite: Mask,
    curvature: PerExample,
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
        scale: the largest ‖Hw‖ / ‖w‖ met, shape [B].
    """

    value: Rows
    steps: Counts
    indefinite: Mask
    curvature: PerExample
    scale: PerExample


#: (true residual r [B, P], active [B], target ‖·‖ [B], steps left [B], scale of H met so far [B])
#: -> the correction H⁻¹r. A residual in the null space of H shows nothing of its scale.
Cycle = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Correction]


def restarted(
    cycle: Cycle, operator: SymmetricOperator, rhs: Rows, rtol: float, max_steps: int
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
    curvature, scale = torch.full_like(residual, torch.inf), torch.zeros_like(residual)
    active = residual > target
    while active.any():
        correction = cycle(r, active, target, max_steps - steps, scale)
        candidate = u + correction.value
        remaining = rhs - operator.matvec(candidate)
        size = torch.linalg.vector_norm(remaining, dim=-1)
        scale = correction.scale
        kept = active & better(size, residual, correction.value, scale)
        u = torch.where(kept.unsqueeze(-1), candidate, u)
        r = torch.where(kept.unsqueeze(-1), remaining, r)
        residual = torch.where(kept, size, residual)
        steps = steps + correction.steps
        indefinite = indefinite | correction.indefinite
        curvature = curvature.minimum(correction.curvature)
        active = kept & (residual > target) & (steps < max_steps)
    return verdict(operator, rhs, u, steps, indefinite, curvature, rtol)


def divide(v: Rows, size: PerExample, where: Mask) -> Rows:
    """Take v / size where asked for, and 0 elsewhere."""
    safe = torch.where(where, size, 1.0).unsqueeze(-1)
    return torch.where(where.unsqueeze(-1), v / safe, 0.0)


def orthogonalise(
    basis: Float[Tensor, "B M P"], w: Rows, scale: PerExample
) -> tuple[Rows, Float[Tensor, "B M"], PerExample, Mask]:
    """Split w into a part in the basis and a rest: (rest, coefficients, ‖rest‖, worth keeping).

    Two passes of Gram–Schmidt leave orthogonality at rounding level, which the short recurrences
    of Lanczos lose in float32; P is small, so a full basis costs little. A rest that rounding
    of products of this scale can explain (the Krylov space is exhausted) is given the norm 0, and
    is not worth keeping.
    """
    coefficients = torch.zeros_like(basis[..., 0])
    for _ in range(2):
        part = multiply(basis, w)
        w = w - multiply(basis.mT, part)
        coefficients = coefficients + part
    rest = norm(w)
    kept = rest > rounding(w.shape[-1], scale)
    return w, coefficients, torch.where(kept, rest, 0.0), kept
