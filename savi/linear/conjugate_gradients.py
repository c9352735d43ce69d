"""Preconditioned conjugate gradients, every example on its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from savi.linear.base import SOLVERS, LinearSolution, SymmetricOperator, dot, rounding
from savi.linear.iterative import (
    IterativeSolver,
    better,
    curvature_along,
    gain,
    gauss_newton_preconditioner,
    verdict,
)
from savi.types import Rows


@SOLVERS.register("cg")
@dataclass(frozen=True)
class ConjugateGradients(IterativeSolver):
    """Conjugate gradients with per-example dot products, stopping and freezing.

    Preconditioned by the Cholesky factor of the Gauss–Newton matrix where the problem offers one
    (Hestenes and Stiefel 1952; Shewchuk 1994 for the preconditioned form). A direction
    of non-positive curvature pᵀHp ≤ 0 ends an example as ``INDEFINITE``. For a right-hand side of 0
    no direction is tried, and ``min_curvature`` is infinite. Returned is the iterate with the
    smallest residual: where H is singular, the residuals of those that follow grow without bound.
    """

    name: ClassVar[str] = "cg"

    def solve(self, operator: SymmetricOperator, rhs: Rows) -> LinearSolution:
        """Iterate until every example has stopped; the residual returned is recomputed."""
        precondition = gauss_newton_preconditioner(operator)
        max_steps = self.step_limit(rhs.shape[-1])
        scale = rhs.new_zeros(1)
        return conjugate_gradients(operator, rhs, precondition, self.rtol, max_steps, scale)


def conjugate_gradients(
    operator: SymmetricOperator,
    rhs: Rows,
    precondition: Callable[[Tensor], Tensor],
    rtol: float,
    max_steps: int,
    scale: Float[Tensor, "#B"],
) -> LinearSolution:
    """The loop, for any positive definite preconditioner r [B, P] -> z [B, P].

    ``scale`` is a lower bound of the largest |eigenvalue| of H, 0 if none is known.
    """
    u, r, best = torch.zeros_like(rhs), rhs, torch.zeros_like(rhs)
    z = precondition(r)
    p, rz = z, dot(r, z)
    steps = torch.zeros_like(rz, dtype=torch.long)
    indefinite = torch.zeros_like(rz, dtype=torch.bool)
    curvature = torch.full_like(rz, torch.inf)
    beta, hp = torch.zeros_like(r[:, :1]), torch.zeros_like(r)
    size = least = torch.linalg.vector_norm(rhs, dim=-1)
    target = rtol * size
    tiny = torch.finfo(rhs.dtype).tiny

    for _ in range(max_steps):
        active = (size > target) & ~indefinite
        if not active.any():
            break
        hp, hp_before = operator.matvec(p), hp
        # Where p lies in the null space of H, z = p − β p_before shows the scale of H all the same.
        scale = scale.maximum(gain(z, hp - beta * hp_before))
        zero = rounding(rhs.shape[-1], scale)
        # By the scale that is met now, an earlier step may turn out to have divided by rounding.
        astray = active & ~(curvature > zero)
        best = torch.where(astray.unsqueeze(-1), 0.0, best)
        curvature = torch.where(active, curvature.minimum(curvature_along(p, hp)), curvature)
        positive = curvature > zero
        indefinite = indefinite | (active & ~positive)
        active = active & positive
        alpha = torch.where(active, rz / torch.where(positive, dot(p, hp), 1.0), 0.0).unsqueeze(-1)
        # Frozen examples must not be touched by a non-finite hp under a zero step.
        u = torch.where(active.unsqueeze(-1), u + alpha * p, u)
        r = torch.where(active.unsqueeze(-1), r - alpha * hp, r)
        size = torch.linalg.vector_norm(r, dim=-1)
        kept = active & better(size, least, u - best, scale)
        best, least = torch.where(kept.unsqueeze(-1), u, best), torch.where(kept, size, least)
        z = precondition(r)
        rz_next = dot(r, z)
        beta = (rz_next / rz.clamp_min(tiny)).unsqueeze(-1)
        p = torch.where(active.unsqueeze(-1), z + beta * p, p)
        rz = torch.where(active, rz_next, rz)
        steps = steps + active.long()

    return verdict(operator, rhs, best, steps, indefinite, curvature, rtol)
