"""Preconditioned conjugate gradients, every example on its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from savi.errors import InputError, require_at_least
from savi.linear.base import (
    SOLVERS,
    LinearSolution,
    LinearSolver,
    LinearStatus,
    SymmetricOperator,
    dot,
    true_residual,
)


@SOLVERS.register("cg")
@dataclass(frozen=True)
class ConjugateGradients(LinearSolver):
    """Conjugate gradients with per-example dot products, stopping and freezing.

    Preconditioned by the Cholesky factor of the Gauss–Newton matrix where the problem offers one
    (Hestenes and Stiefel 1952; Shewchuk 1994 for the preconditioned form). A direction
    of non-positive curvature pᵀHp ≤ 0 ends an example as ``INDEFINITE`` at its last iterate. For
    a right-hand side of 0 no direction is tried, and ``min_curvature`` is infinite.

    Args:
        rtol: stop an example at ‖H u − v‖ ≤ rtol ‖v‖.
        max_steps: at most so many steps; None means 2P, twice what exact arithmetic needs.
    """

    rtol: float = 1e-5
    max_steps: int | None = None
    name: ClassVar[str] = "cg"

    def __post_init__(self) -> None:
        if not self.rtol > 0:
            raise InputError(f"gradient.rtol is {self.rtol}: set it above 0")
        if self.max_steps is not None:
            require_at_least("gradient.max_steps", self.max_steps, 1)

    @classmethod
    def configured(cls, rtol: float, max_steps: int | None) -> LinearSolver:
        """The solver with this stopping rule."""
        return cls(rtol=rtol, max_steps=max_steps)

    def solve(self, operator: SymmetricOperator, rhs: Float[Tensor, "B P"]) -> LinearSolution:
        """Iterate until every example has stopped; the residual returned is recomputed."""
        precondition = _preconditioner(operator, rhs)
        u, r = torch.zeros_like(rhs), rhs
        z = precondition(r)
        p, rz = z, dot(r, z)
        steps = torch.zeros_like(rz, dtype=torch.long)
        indefinite = torch.zeros_like(rz, dtype=torch.bool)
        curvature = torch.full_like(rz, torch.inf)
        target = self.rtol * torch.linalg.vector_norm(rhs, dim=-1)
        tiny = torch.finfo(rhs.dtype).tiny

        for _ in range(self.max_steps or 2 * rhs.shape[-1]):
            active = (torch.linalg.vector_norm(r, dim=-1) > target) & ~indefinite
            if not active.any():
                break
            hp = operator.matvec(p)
            php, pp = dot(p, hp), dot(p, p)
            curvature = torch.where(active, curvature.minimum(php / pp.clamp_min(tiny)), curvature)
            # NaN compares false, so that a non-finite curvature ends here too.
            positive = (
                php
                > torch.finfo(rhs.dtype).eps
                * torch.linalg.vector_norm(p, dim=-1)
                * torch.linalg.vector_norm(hp, dim=-1)
                * 0.1
            )
            indefinite = indefinite | (active & ~positive)
            active = active & positive
            alpha = torch.where(active, rz / torch.where(positive, php, 1.0), 0.0).unsqueeze(-1)
            # Frozen examples must not be touched by a non-finite hp under a zero step.
            u = torch.where(active.unsqueeze(-1), u + alpha * p, u)
            r = torch.where(active.unsqueeze(-1), r - alpha * hp, r)
            z = precondition(r)
            rz_next = dot(r, z)
            beta = (rz_next / rz.clamp_min(tiny)).unsqueeze(-1)
            p = torch.where(active.unsqueeze(-1), z + beta * p, p)
            rz = torch.where(active, rz_next, rz)
            steps = steps + active.long()

        residual = true_residual(operator.matvec(u), rhs)
        # The recurrence drifts from the true residual by rounding, so a factor is allowed.
        solved = residual <= 10.0 * target
        status = torch.where(solved, LinearStatus.SOLVED, LinearStatus.MAX_STEPS).long()
        status[indefinite] = LinearStatus.INDEFINITE
        return LinearSolution(u, residual, steps, status, curvature)


def _preconditioner(
    operator: SymmetricOperator, rhs: Float[Tensor, "B P"]
) -> Callable[[Tensor], Tensor]:
    if operator.preconditioner is None:
        return lambda r: r
    factor, info = torch.linalg.cholesky_ex(operator.preconditioner())
    identity = torch.eye(rhs.shape[-1], dtype=rhs.dtype, device=rhs.device)
    usable = (info == 0) & torch.isfinite(factor).flatten(1).all(dim=-1)
    factor = torch.where(usable[:, None, None], factor, identity)
    return lambda r: torch.cholesky_solve(r.unsqueeze(-1), factor).squeeze(-1)
