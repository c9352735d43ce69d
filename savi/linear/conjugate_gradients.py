"""Preconditioned conjugate gradients, every example on its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from savi.linear.base import SOLVERS, LinearSolution, SymmetricOperator, dot
from savi.linear.iterative import (
    IterativeSolver,
    curvature_along,
    gauss_newton_preconditioner,
    verdict,
)


@SOLVERS.register("cg")
@dataclass(frozen=True)
class ConjugateGradients(IterativeSolver):
    """Conjugate gradients with per-example dot products, stopping and freezing.

    Preconditioned by the Cholesky factor of the Gauss–Newton matrix where the problem offers one
    (Hestenes and Stiefel 1952; Shewchuk 1994 for the preconditioned form). A direction
    of non-positive curvature pᵀHp ≤ 0 ends an example as ``INDEFINITE`` at its last iterate. For
    a right-hand side of 0 no direction is tried, and ``min_curvature`` is infinite.

    Args:
        rtol: stop an example at ‖H u − v‖ ≤ rtol ‖v‖.
        max_steps: at most so many steps; None means 2P, twice what exact arithmetic needs.

    Raises:
        InputError: unless ``rtol`` is above 0 and ``max_steps`` 1 or more.
    """

    name: ClassVar[str] = "cg"

    def solve(self, operator: SymmetricOperator, rhs: Float[Tensor, "B P"]) -> LinearSolution:
        """Iterate until every example has stopped; the residual returned is recomputed."""
        precondition = gauss_newton_preconditioner(operator)
        max_steps = self.step_limit(rhs.shape[-1])
        return conjugate_gradients(operator, rhs, precondition, self.rtol, max_steps)


def conjugate_gradients(
    operator: SymmetricOperator,
    rhs: Float[Tensor, "B P"],
    precondition: Callable[[Tensor], Tensor],
    rtol: float,
    max_steps: int,
) -> LinearSolution:
    """The loop, for any positive definite preconditioner r [B, P] -> z [B, P]."""
    u, r = torch.zeros_like(rhs), rhs
    z = precondition(r)
    p, rz = z, dot(r, z)
    steps = torch.zeros_like(rz, dtype=torch.long)
    indefinite = torch.zeros_like(rz, dtype=torch.bool)
    curvature, scale = torch.full_like(rz, torch.inf), torch.zeros_like(rz)
    target = rtol * torch.linalg.vector_norm(rhs, dim=-1)
    tiny = torch.finfo(rhs.dtype).tiny

    for _ in range(max_steps):
        active = (torch.linalg.vector_norm(r, dim=-1) > target) & ~indefinite
        if not active.any():
            break
        hp = operator.matvec(p)
        along_p, positive, scale = curvature_along(p, hp, scale)
        curvature = torch.where(active, curvature.minimum(along_p), curvature)
        indefinite = indefinite | (active & ~positive)
        active = active & positive
        alpha = torch.where(active, rz / torch.where(positive, dot(p, hp), 1.0), 0.0).unsqueeze(-1)
        # Frozen examples must not be touched by a non-finite hp under a zero step.
        u = torch.where(active.unsqueeze(-1), u + alpha * p, u)
        r = torch.where(active.unsqueeze(-1), r - alpha * hp, r)
        z = precondition(r)
        rz_next = dot(r, z)
        beta = (rz_next / rz.clamp_min(tiny)).unsqueeze(-1)
        p = torch.where(active.unsqueeze(-1), z + beta * p, p)
        rz = torch.where(active, rz_next, rz)
        steps = steps + active.long()

    return verdict(operator, rhs, u, steps, indefinite, curvature, rtol)
