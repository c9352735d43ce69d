"""Direct solve with the exact P×P blocks: the reference, and the default for small P."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from savi.errors import InputError
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

    Raises:
        InputError: if ``inverse_iterations`` is below 1.
    """

    inverse_iterations: int = 4
    name: ClassVar[str] = "cholesky"

    def __post_init__(self) -> None:
        if self.inverse_iterations < 1:
            raise InputError(
                f"gradient.solver 'cholesky': inverse_iterations is {self.inverse_iterations}, "
                "but it must be 1 or more"
            )

    def solve(self, operator: SymmetricOperator, rhs: Float[Tensor, "B P"]) -> LinearSolution:
        """Factorise all blocks at once; fall back to LU for those that are not definite."""
        hessian = operator.dense()
        factor, info = torch.linalg.cholesky_ex(hessian)
        status = torch.where(info == 0, LinearStatus.SOLVED, LinearStatus.INDEFINITE).long()
        u = torch.cholesky_solve(rhs.unsqueeze(-1), factor).squeeze(-1)
        curvature = self._smallest_eigenvalue(factor, u)

        # A singular block can pass, by a pivot that is positive through rounding alone.
        rank_tolerance = _rank_tolerance(hessian.diagonal(dim1=-2, dim2=-1))
        sound = torch.isfinite(u).all(dim=-1) & torch.isfinite(factor).flatten(1).all(dim=-1)
        failed = (info != 0) | ~sound | ~(curvature > rank_tolerance)
        if failed.any():
            u, status, curvature = u.clone(), status.clone(), curvature.clone()
            u[failed], status[failed], curvature[failed] = _by_lu(hessian[failed], rhs[failed])
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


def _rank_tolerance(spectrum: Float[Tensor, "B P"]) -> Float[Tensor, " B"]:
    """P ε max|·|: an eigenvalue below it cannot be told from 0."""
    return spectrum.shape[-1] * torch.finfo(spectrum.dtype).eps * spectrum.abs().amax(dim=-1)


def _by_lu(
    hessian: Float[Tensor, "F P P"], rhs: Float[Tensor, "F P"]
) -> tuple[Tensor, Tensor, Tensor]:
    """LU for blocks that Cholesky refused, with their status and smallest eigenvalue."""
    finite = torch.isfinite(hessian).flatten(1).all(dim=-1)
    identity = torch.eye(rhs.shape[-1], dtype=rhs.dtype, device=rhs.device)
    safe = torch.where(finite[:, None, None], hessian, identity)
    eigenvalues = torch.linalg.eigvalsh(safe)
    singular = ~finite | (eigenvalues.abs().amin(dim=-1) <= _rank_tolerance(eigenvalues))
    safe = torch.where(singular[:, None, None], identity, safe)
    u = torch.linalg.solve(safe, rhs.unsqueeze(-1)).squeeze(-1)
    u = torch.where(singular.unsqueeze(-1), torch.zeros_like(u), u)
    smallest = eigenvalues[:, 0]
    status = torch.where(smallest > 0, LinearStatus.SOLVED, LinearStatus.INDEFINITE).long()
    status[singular] = LinearStatus.SINGULAR
    return u, status, torch.where(finite, smallest, torch.nan)
