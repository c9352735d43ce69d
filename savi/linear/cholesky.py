"""Direct solve with the exact P×P blocks: the reference, and the default for small P."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from savi.linear.base import (
    SOLVERS,
    LinearSolution,
    LinearSolver,
    LinearStatus,
    SymmetricOperator,
    true_residual,
)


@SOLVERS.register("cholesky")
@dataclass(frozen=True)
class Cholesky(LinearSolver):
    """H = L Lᵀ, u = L⁻ᵀ L⁻¹ v.

    A block that is not positive definite is no minimum: it is reported as ``INDEFINITE`` and
    solved by LU, which is still the right answer of the linear system. A singular block is
    reported and answered with 0.

    Args:
        inverse_iterations: steps of inverse iteration that estimate the smallest eigenvalue.
    """

    inverse_iterations: int = 4
    name: ClassVar[str] = "cholesky"

    def solve(self, operator: SymmetricOperator, rhs: Float[Tensor, "B P"]) -> LinearSolution:
        """Factorise all blocks at once; fall back to LU for those that are not definite."""
        hessian = operator.dense()
        factor, info = torch.linalg.cholesky_ex(hessian)
        status = torch.where(info == 0, LinearStatus.SOLVED, LinearStatus.INDEFINITE).long()
        u = torch.cholesky_solve(rhs.unsqueeze(-1), factor).squeeze(-1)
        curvature = self._smallest_eigenvalue(factor, u)

        failed = (info != 0) | ~torch.isfinite(u).all(dim=-1)
        if failed.any():
            u, status, curvature = u.clone(), status.clone(), curvature.clone()
            u[failed], status[failed], curvature[failed] = _indefinite(hessian[failed], rhs[failed])
        product = (hessian @ u.unsqueeze(-1)).squeeze(-1)
        residual = torch.where(
            status == LinearStatus.SINGULAR,
            torch.linalg.vector_norm(rhs, dim=-1),
            true_residual(product, rhs),
        )
        return LinearSolution(u, residual, torch.zeros_like(status), status, curvature)

    def _smallest_eigenvalue(
        self, factor: Float[Tensor, "B P P"], start: Float[Tensor, "B P"]
    ) -> Float[Tensor, " B"]:
        """1 / ‖H⁻¹w‖ for the w that inverse iteration turns towards the softest direction."""
        # A fixed irregular start is orthogonal to the softest direction with probability 0, and a
        # right-hand side of 0 then still yields an estimate.
        index = torch.arange(1, start.shape[-1] + 1, dtype=start.dtype, device=start.device)
        w = torch.sin(index).expand_as(start)
        norm = torch.linalg.vector_norm(w, dim=-1, keepdim=True)
        for _ in range(self.inverse_iterations):
            w = torch.cholesky_solve((w / norm).unsqueeze(-1), factor).squeeze(-1)
            norm = torch.linalg.vector_norm(w, dim=-1, keepdim=True)
        return 1.0 / norm.squeeze(-1)


def _indefinite(
    hessian: Float[Tensor, "F P P"], rhs: Float[Tensor, "F P"]
) -> tuple[Tensor, Tensor, Tensor]:
    """LU for blocks that Cholesky refused, with their status and smallest eigenvalue."""
    finite = torch.isfinite(hessian).flatten(1).all(dim=-1)
    identity = torch.eye(rhs.shape[-1], dtype=rhs.dtype, device=rhs.device)
    safe = torch.where(finite[:, None, None], hessian, identity)
    eigenvalues = torch.linalg.eigvalsh(safe)
    extent = eigenvalues.abs().amax(dim=-1)
    rank_tolerance = rhs.shape[-1] * torch.finfo(rhs.dtype).eps * extent
    singular = ~finite | (eigenvalues.abs().amin(dim=-1) <= rank_tolerance)
    safe = torch.where(singular[:, None, None], identity, safe)
    u = torch.linalg.solve(safe, rhs.unsqueeze(-1)).squeeze(-1)
    u = torch.where(singular.unsqueeze(-1), torch.zeros_like(u), u)
    status = torch.where(singular, LinearStatus.SINGULAR, LinearStatus.INDEFINITE).long()
    nan = torch.full_like(extent, torch.nan)
    return u, status, torch.where(finite, eigenvalues[:, 0], nan)
