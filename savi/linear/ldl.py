"""Direct solve by symmetric indefinite factorisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from savi.linear.base import SOLVERS, LinearSolution, LinearStatus, SymmetricOperator
from savi.linear.dense import (
    DirectSolver,
    Factorised,
    finite_blocks,
    identity_unless,
    judge,
    multiply,
)
from savi.types import Blocks, Rows


@SOLVERS.register("ldl")
@dataclass(frozen=True)
class LDL(DirectSolver):
    """Π H Πᵀ = L D Lᵀ with pivots of size 1×1 and 2×2 in D (Bunch and Kaufman 1977).

    The same factor serves definite and indefinite blocks, and its pivots tell them apart: a 2×2
    pivot is only ever taken where its determinant is negative, so that H is positive definite if
    and only if all pivots are 1×1 and positive (Sylvester's law of inertia). An indefinite block
    is solved and reported as ``INDEFINITE``, a singular one reported and answered with 0.

    Args:
        inverse_iterations: steps of inverse iteration that estimate the smallest eigenvalue.

    Raises:
        InputError: if ``inverse_iterations`` is below 1.
    """

    name: ClassVar[str] = "ldl"

    def solve(self, operator: SymmetricOperator, rhs: Rows) -> LinearSolution:
        """Factorise all blocks at once, whatever the signs of their eigenvalues."""
        hessian = operator.dense()
        factorised = self._factorise(hessian)
        return factorised.solution(lambda u: multiply(hessian, u), rhs)

    def _factorise(self, blocks: Blocks) -> Factorised:
        factor, pivots, info = torch.linalg.ldl_factor_ex(
            identity_unless(finite_blocks(blocks), blocks)
        )
        definite = ((pivots > 0) & (factor.diagonal(dim1=-2, dim2=-1) > 0)).all(dim=-1)

        def by_ldl(w: Rows) -> Rows:
            return torch.linalg.ldl_solve(factor, pivots, w.unsqueeze(-1)).squeeze(-1)

        status, curvature = judge(blocks, definite, by_ldl, self.inverse_iterations)
        # An exactly zero pivot cannot be divided by, whatever the eigenvalues say.
        status[info != 0] = LinearStatus.SINGULAR
        singular = (status == LinearStatus.SINGULAR).unsqueeze(-1)
        return Factorised(lambda w: torch.where(singular, 0.0, by_ldl(w)), status, curvature)
