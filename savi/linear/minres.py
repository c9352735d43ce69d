"""The minimal residual method for symmetric systems, definite or not."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch

from savi.linear.base import SOLVERS, LinearSolution, SymmetricOperator, dot, norm, rounding
from savi.linear.iterative import (
    Correction,
    IterativeSolver,
    better,
    divide,
    orthogonalise,
    restarted,
)
from savi.types import Counts, Mask, PerExample, Rows


@SOLVERS.register("minres")
@dataclass(frozen=True)
class MINRES(IterativeSolver):
    """u_k minimises ‖H u − v‖ over the Krylov space span{v, Hv, …, Hᵏ⁻¹v}.

    Lanczos turns H into a tridiagonal T with diagonal α and off-diagonal β, which plane rotations
    (c, s) make triangular as it grows (Paige and Saunders 1975). The residual never increases,
    also where H is indefinite.

    The rotations give the curvature along the last residual for nothing (Liu and Roosta 2022):
    rᵀHr / rᵀr = −c_{k−1} γ_k, and no such curvature is non-positive if and only if T_k is positive
    definite. An example where one is gets the status ``INDEFINITE``, and its solution all the same.

    Steps along the null space of a singular H, whose length rounding would decide, are not
    returned: what is returned solves what can be solved of the system.

    The Lanczos basis is kept and orthogonalised in full, and a new one is begun from the true
    residual after P vectors. No preconditioner is used: the residual that is minimised is the true
    one. For a right-hand side of 0 no direction is tried, and ``min_curvature`` is infinite.
    """

    name: ClassVar[str] = "minres"

    def solve(self, operator: SymmetricOperator, rhs: Rows) -> LinearSolution:
        """Iterate until every example has stopped; the residual returned is recomputed."""
        max_steps = self.step_limit(rhs.shape[-1])
        cycle = partial(_cycle, operator, min(rhs.shape[-1], max_steps))
        return restarted(cycle, operator, rhs, self.rtol, max_steps)


def _cycle(
    operator: SymmetricOperator,
    length: int,
    r: Rows,
    running: Mask,
    target: PerExample,
    budget: Counts,
    scale: PerExample,
) -> Correction:
    """At most ``length`` Lanczos vectors from the residual r.

    An example that stops running never starts again, so only what is returned must be frozen.
    """
    phi = torch.linalg.vector_norm(r, dim=-1)
    v = divide(r, phi, running)
    basis = v.unsqueeze(1)
    u, d, d_before = torch.zeros_like(r), torch.zeros_like(r), torch.zeros_like(r)
    c, s = -torch.ones_like(phi), torch.zeros_like(phi)
    delta, epsilon = torch.zeros_like(phi), torch.zeros_like(phi)
    best, least = u, phi
    curvature = torch.full_like(phi, torch.inf)
    steps = torch.zeros_like(budget)

    for _ in range(length):
        running = running & (phi > target) & (steps < budget)
        if not running.any():
            break
        steps = steps + running.long()
        hv = operator.matvec(v)
        scale = scale.maximum(norm(hv))
        running = running & torch.isfinite(scale)
        alpha = dot(v, hv)
        zero = rounding(r.shape[-1], scale)
        v_next, _, beta, more = orthogonalise(basis, hv, scale)

        # The last rotation, applied to the new column of T.
        delta_k, gamma = c * delta + s * alpha, s * delta - c * alpha
        epsilon_k, epsilon, delta = epsilon, s * beta, -c * beta
        along_residual = -c * gamma
        curvature = torch.where(running, curvature.minimum(along_residual), curvature)

        # A new rotation, which removes β; without a pivot T is singular and no step can be made.
        pivot = torch.hypot(gamma, beta)
        running = running & (pivot > zero)
        safe = torch.where(running, pivot, 1.0)
        c, s = gamma / safe, beta / safe
        d_k = (v - delta_k.unsqueeze(-1) * d - epsilon_k.unsqueeze(-1) * d_before) / safe[:, None]
        d, d_before = d_k, d
        u = torch.where(running.unsqueeze(-1), u + (c * phi).unsqueeze(-1) * d, u)
        phi = s * phi
        kept = running & better(phi, least, u - best, scale)
        best, least = torch.where(kept.unsqueeze(-1), u, best), torch.where(kept, phi, least)
        v = divide(v_next, beta, more)
        basis = torch.cat([basis, v.unsqueeze(1)], dim=1)

    indefinite = (steps > 0) & ~(curvature > rounding(r.shape[-1], scale))
    return Correction(best, steps, indefinite, curvature, scale)
