"""The generalised minimal residual method, preconditioned from the right and restarted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from savi.linear.base import SOLVERS, LinearSolution, SymmetricOperator, norm, rounding
from savi.linear.dense import finite_blocks, identity_unless, multiply, rank_tolerance
from savi.linear.iterative import (
    Correction,
    IterativeSolver,
    better,
    divide,
    gain,
    gauss_newton_preconditioner,
    orthogonalise,
    restarted,
)
from savi.settings import setting
from savi.types import Counts, Mask, PerExample, Rows


@SOLVERS.register("gmres")
@dataclass(frozen=True)
class GMRES(IterativeSolver):
    """u = Z y minimises ‖H u − v‖ over Z = C⁻¹V, V a basis of the Krylov space of H C⁻¹.

    Arnoldi's method, orthogonalised twice, builds V with H Z = V H̄ and H̄ upper Hessenberg; plane
    rotations G give the residual of every step (Saad and Schultz 1986). C is the Gauss–Newton
    matrix where the problem offers one (else I). Preconditioned from the right, the residual that
    is minimised is the true one.

    The curvature is that along Zy for the eigenvectors y of ZᵀHZ, whose signs are those of H on
    the space that was searched (Sylvester). An example with non-positive curvature there gets the
    status ``INDEFINITE``, and its solution all the same. For a right-hand side of 0 no direction is
    tried, and ``min_curvature`` is infinite. Steps along the null space of a singular H, whose
    length rounding would decide, are not returned.

    Args:
        restart: begin a new basis from the true residual after so many vectors; None means P.
    """

    restart: int | None = setting(None, at_least=1)
    name: ClassVar[str] = "gmres"

    def solve(self, operator: SymmetricOperator, rhs: Rows) -> LinearSolution:
        """Iterate until every example has stopped; the residual returned is recomputed."""
        max_steps = self.step_limit(rhs.shape[-1])
        length = min(self.restart or rhs.shape[-1], rhs.shape[-1], max_steps)
        cycle = partial(_cycle, operator, gauss_newton_preconditioner(operator), length)
        return restarted(cycle, operator, rhs, self.rtol, max_steps)


def _cycle(
    operator: SymmetricOperator,
    precondition: Callable[[Tensor], Tensor],
    length: int,
    r: Rows,
    running: Mask,
    target: PerExample,
    budget: Counts,
    scale: PerExample,
) -> Correction:
    """At most ``length`` Arnoldi vectors from the residual r.

    An example that stops running never starts again.
    """
    batch, size = r.shape
    beta = torch.linalg.vector_norm(r, dim=-1)
    v = divide(r, beta, running)
    basis = v.unsqueeze(1)
    z, hz, d = (r.new_zeros(batch, length, size) for _ in range(3))
    rotations = torch.eye(length + 1, dtype=r.dtype, device=r.device).repeat(batch, 1, 1)
    u, residual = torch.zeros_like(r), beta
    best, least = u, residual
    steps = torch.zeros_like(budget)

    for k in range(length):
        running = running & (residual > target) & (steps < budget)
        if not running.any():
            break
        steps = steps + running.long()
        z_k = precondition(v)
        hz_k = operator.matvec(z_k)
        scale = scale.maximum(gain(z_k, hz_k))
        running = running & torch.isfinite(scale)
        z[:, k] = torch.where(running.unsqueeze(-1), z_k, 0.0)
        hz[:, k] = torch.where(running.unsqueeze(-1), hz_k, 0.0)

        level = scale * norm(z_k)
        v_next, above, below, more = orthogonalise(basis, hz_k, level)
        column = torch.cat([above, below.unsqueeze(-1)], dim=-1)
        column = multiply(rotations[:, : k + 2, : k + 2], column)
        # Without a pivot the vector adds nothing: the space is exhausted and H singular on it.
        pivot = torch.hypot(column[:, k], column[:, k + 1])
        running = running & (pivot > rounding(size, level))
        safe = torch.where(running, pivot, 1.0)
        _rotate(rotations, k, column[:, k] / safe, column[:, k + 1] / safe)
        # Z R⁻¹, column by column: H maps it to orthonormal vectors.
        d[:, k] = (z[:, k] - multiply(d[:, :k].mT, column[:, :k])) / safe.unsqueeze(-1)
        # Rows k and k + 1 of G (β e₁): what the vector takes of the residual, and what it leaves.
        taken, residual = beta * rotations[:, k, 0], beta * rotations[:, k + 1, 0].abs()
        u = torch.where(running.unsqueeze(-1), u + taken.unsqueeze(-1) * d[:, k], u)
        kept = running & better(residual, least, u - best, scale)
        best, least = torch.where(kept.unsqueeze(-1), u, best), torch.where(kept, residual, least)
        v = divide(v_next, below, more)
        basis = torch.cat([basis, v.unsqueeze(1)], dim=1)

    return Correction(best, steps, *_curvature(z, hz, scale), scale)


def _rotate(rotations: Float[Tensor, "B M M"], k: int, c: PerExample, s: PerExample) -> None:
    """Turn rows k and k + 1 by the rotation (c, s)."""
    upper, lower = rotations[:, k].clone(), rotations[:, k + 1].clone()
    c, s = c.unsqueeze(-1), s.unsqueeze(-1)
    rotations[:, k], rotations[:, k + 1] = c * upper + s * lower, c * lower - s * upper


def _curvature(
    z: Float[Tensor, "B M P"], hz: Float[Tensor, "B M P"], scale: PerExample
) -> tuple[Mask, PerExample]:
    """Whether H is not positive definite on the rows of z, and its smallest curvature there."""
    tried = (z != 0).any(dim=-1)
    compression = z @ hz.mT
    finite = finite_blocks(compression)
    compression = identity_unless(finite, 0.5 * (compression + compression.mT))
    # A row that was not tried gets an eigenvalue as large as any, which decides nothing.
    largest = compression.abs().amax(dim=(-2, -1)).unsqueeze(-1)
    eigenvalues, y = torch.linalg.eigh(
        compression + torch.diag_embed(torch.where(tried, 0.0, largest))
    )
    size = torch.linalg.vector_norm(y.mT @ z, dim=-1)
    lowest = torch.where(size > 0, eigenvalues / size / size, torch.inf).amin(dim=-1)
    positive = finite & (eigenvalues[:, 0] > rank_tolerance(eigenvalues))
    positive = positive & (lowest > rounding(z.shape[-1], scale))
    return tried.any(dim=-1) & ~positive, lowest
