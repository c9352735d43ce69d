"""Direct solve with the exact P×P blocks: the reference, and the default for small P."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from savi.linear.base import SOLVERS, LinearSolution, LinearStatus, SymmetricOperator
from savi.linear.dense import (
    DirectSolver,
    Factorised,
    by_cholesky,
    judge,
    multiply,
    safe_cholesky,
)
from savi.types import Blocks, Rows


@SOLVERS.register("cholesky")
@dataclass(frozen=True)
class Cholesky(DirectSolver):
    """H = L Lᵀ, u = L⁻ᵀ L⁻¹ v.

    A block that is not positive definite is no minimum: it is reported as ``INDEFINITE`` and
    solved by LU, which is still the right answer of the linear system. A singular block is
    reported and answered with 0.

    Args:
        inverse_iterations: steps of inverse iteration that estimate the smallest eigenvalue.

    Raises:
        InputError: if ``inverse_iterations`` is below 1.
    """

    name: ClassVar[str] = "cholesky"

    def solve(self, operator: SymmetricOperator, rhs: Rows) -> LinearSolution:
        """Factorise all blocks at once; fall back to LU for those that are not definite."""
        hessian = operator.dense()
        factorised = factorise(hessian, self.inverse_iterations)
        return factorised.solution(lambda u: multiply(hessian, u), rhs)


def factorise(blocks: Blocks, inverse_iterations: int) -> Factorised:
    """Cholesky factors, and LU factors of the blocks that Cholesky refused."""
    factor, definite = safe_cholesky(blocks)
    status, curvature = judge(
        blocks, definite, lambda w: by_cholesky(factor, w), inverse_iterations
    )
    singular = (status == LinearStatus.SINGULAR).unsqueeze(-1)
    refused = ~definite & ~singular.squeeze(-1)
    lu = torch.linalg.lu_factor(blocks[refused]) if refused.any() else None

    def inverse(w: Rows) -> Rows:
        u = by_cholesky(factor, w)
        if lu is not None:
            u[refused] = torch.linalg.lu_solve(*lu, w[refused].unsqueeze(-1)).squeeze(-1)
        return torch.where(singular, 0.0, u)

    return Factorised(inverse, status, curvature)
