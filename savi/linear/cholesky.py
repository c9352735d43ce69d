"""Direct solve with the exact P×P blocks: the reference, and the default for small P."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from savi.linear.base import SOLVERS, LinearSolution, LinearStatus, SymmetricOperator
from savi.linear.dense import (
    DirectSolver,
    Factorised,
    by_cholesky,
    judge,
    multiply,
    safe_cholesky,
)


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

    def solve(self, operator: SymmetricOperator, rhs: Float[Tensor, "B P"]) -> LinearSolution:
        """Factorise all blocks at once; fall back to LU for those that are not definite."""
        hessian = operator.dense()
        factorised = factorise(hessian, self.inverse_iterations)
        return factorised.solution(lambda u: multiply(hessian, u), rhs)


def factorise(blocks: Float[Tensor, "B P P"], inverse_iterations: int) -> Factorised:
    """Cholesky factors, and LU factors of the blocks that Cholesky refused."""
    factor, definite = safe_cholesky(blocks)
    status, curvature = judge(
        blocks, definite, lambda w: by_cholesky(factor, w), inverse_iterations
    )
    singular = (status == LinearStatus.SINGULAR).unsqueeze(-1)
    refused = ~definite & ~singular.squeeze(-1)
    lu = torch.linalg.lu_factor(blocks[refused]) if refused.any() else None

    def inverse(w: Float[Tensor, "B P"]) -> Float[Tensor, "B P"]:
        u = by_cholesky(factor, w)
        if lu is not None:
            u[refused] = torch.linalg.lu_solve(*lu, w[refused].unsqueeze(-1)).squeeze(-1)
        return torch.where(singular, 0.0, u)

    return Factorised(inverse, status, curvature)
