"""The generalised minimal residual method, preconditioned from the right and restarted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from savi.errors import require_at_least
from savi.linear.base import SOLVERS, LinearSolution, SymmetricOperator, norm
from savi.linear.dense import finite_blocks, identity_unless, multiply, rank_tolerance
from savi.linear.iterative import (
    Correction,
    IterativeSolver,
    divide,
    gauss_newton_preconditioner,
    orthogonalise,
    restarted,
)


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
    tried, and ``min_curvature`` is infinite.

    Args:
        rtol: stop an example at ‖H u − v‖ ≤ rtol ‖v‖.
        max_steps: at most so many steps; None means 2P, twice what exact arithmetic needs.
        restart: begin a new basis from the true residual after so many vectors; None means P.

    Raises:
        InputError: unless ``rtol`` is above 0 and ``max_steps`` and ``restart`` 1 or more.
    """

    restart: int | None = None
    name: ClassVar[str] = "gmres"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.restart is not None:
            require_at_least("gradient.solver 'gmres': restart", self.restart, 1)

    def solve(self, operator: SymmetricOperator, rhs: Float[Tensor, "B P"]) -> LinearSolution:
        """Iterate until every example has stopped; the residual returned is recomputed."""
        precondition = gauss_newton_preconditioner(operator)
        max_steps = self.step_limit(rhs.shape[-1])
        length = min(self.restart or rhs.shape[-1], rhs.shape[-1], max_steps)

        def cycle(r: Tensor, active: Tensor, target: Tensor, budget: Tensor) -> Correction:
            return _cycle(operator, precondition, r, active, target, budget, length)

        return restarted(cycle, operator, rhs, self.rtol, max_steps)


def _cycle(
    operator: SymmetricOperator,
    precondition: Callable[[Tensor], Tensor],
    r: Float[Tensor, "B P"],
    running: Bool[Tensor, " B"],
    target: Float[Tensor, " B"],
    budget: Int[Tensor, " B"],
    length: int,
) -> Correction:
    """At most ``length`` Arnoldi vectors from the residual r.

    An example that stops running never starts again: its later columns are those of the identity.
    """
    batch, size = r.shape
    beta = torch.linalg.vector_norm(r, dim=-1)
    v = divide(r, beta, running)
    basis = v.unsqueeze(1)
    z, hz = r.new_zeros(batch, length, size), r.new_zeros(batch, length, size)
    triangle = torch.eye(length, dtype=r.dtype, device=r.device).repeat(batch, 1, 1)
    rotations = torch.eye(length + 1, dtype=r.dtype, device=r.device).repeat(batch, 1, 1)
    used = torch.zeros(batch, length, dtype=torch.bool, device=r.device)
    steps = torch.zeros_like(budget)

    for k in range(length):
        # Row k of G (β e₁) is the residual that the first k vectors leave.
        residual = beta * rotations[:, k, 0].abs()
        running = running & (residual > target) & (steps < budget)
        if not running.any():
            break
        steps = steps + running.long()
        z_k = precondition(v)
        hz_k = operator.matvec(z_k)
        scale = norm(hz_k)
        running = running & torch.isfinite(scale)
        z[:, k] = torch.where(running.unsqueeze(-1), z_k, 0.0)
        hz[:, k] = torch.where(running.unsqueeze(-1), hz_k, 0.0)

        v_next, above, below, kept = orthogonalise(basis, hz_k)
        column = torch.cat([above, below.unsqueeze(-1)], dim=-1)
        column = multiply(rotations[:, : k + 2, : k + 2], column)
        # Without a pivot the vector adds nothing: the space is exhausted and H singular on it.
        pivot = torch.hypot(column[:, k], column[:, k + 1])
        running = running & (pivot > size * torch.finfo(r.dtype).eps * scale)
        safe = torch.where(running, pivot, 1.0)
        _rotate(rotations, k, column[:, k] / safe, column[:, k + 1] / safe)
        triangle[:, :k, k] = torch.where(running.unsqueeze(-1), column[:, :k], 0.0)
        triangle[:, k, k] = safe
        used[:, k] = running
        v = divide(v_next, below, kept)
        basis = torch.cat([basis, v.unsqueeze(1)], dim=1)

    g = torch.where(used, beta.unsqueeze(-1) * rotations[:, :length, 0], 0.0)
    y = torch.linalg.solve_triangular(triangle, g.unsqueeze(-1), upper=True).squeeze(-1)
    return Correction(multiply(z.mT, y), steps, *_curvature(z, hz))


def _rotate(
    rotations: Float[Tensor, "B M M"], k: int, c: Float[Tensor, " B"], s: Float[Tensor, " B"]
) -> None:
    """Turn rows k and k + 1 by the rotation (c, s)."""
    upper, lower = rotations[:, k].clone(), rotations[:, k + 1].clone()
    c, s = c.unsqueeze(-1), s.unsqueeze(-1)
    rotations[:, k], rotations[:, k + 1] = c * upper + s * lower, c * lower - s * upper


def _curvature(
    z: Float[Tensor, "B M P"], hz: Float[Tensor, "B M P"]
) -> tuple[Bool[Tensor, " B"], Float[Tensor, " B"]]:
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
    along = torch.where(size > 0, eigenvalues / size / size, torch.inf)
    positive = finite & (eigenvalues[:, 0] > rank_tolerance(eigenvalues))
    return tried.any(dim=-1) & ~positive, along.amin(dim=-1)
