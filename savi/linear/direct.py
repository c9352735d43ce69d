"""Direct solvers: the P×P blocks are factorised, exact ones or their Gauss–Newton approximation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from savi.errors import SettingError
from savi.linear.base import SOLVERS, LinearSolution, LinearStatus, SymmetricOperator, dot, rounding
from savi.linear.dense import (
    DirectSolver,
    Factorised,
    by_cholesky,
    finite_blocks,
    identity_unless,
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


@SOLVERS.register("gauss_newton")
@dataclass(frozen=True)
class GaussNewtonSolve(DirectSolver):
    """u = C⁻¹ v with the positive definite Gauss–Newton matrix C, not with H itself.

    **Biased** where C ≠ H. With u* = H⁻¹v the error is u − u* = C⁻¹(H − C) u*, so that

        ‖u − u*‖ / ‖u*‖ ≤ ‖C⁻¹(H − C)‖,    ‖H u − v‖ / ‖v‖ = ‖(H − C) C⁻¹ v‖ / ‖v‖,

    and the residual returned is that of the true H: it shows the bias and does not fall with more
    work. ``SOLVED`` says that C u = v is solved. ``INDEFINITE`` reports a C that is not positive
    definite or a solution with uᵀHu ≤ 0; ``min_curvature`` is the smaller of uᵀHu / uᵀu and the
    smallest eigenvalue of C, and only the former bounds that of H.

    Args:
        inverse_iterations: steps of inverse iteration that estimate the smallest eigenvalue of C.

    Raises:
        InputError: if ``inverse_iterations`` is below 1, or the operator has no Gauss–Newton
            matrix.
    """

    name: ClassVar[str] = "gauss_newton"
    biased: ClassVar[bool] = True
    needs_gauss_newton: ClassVar[bool] = True

    def solve(self, operator: SymmetricOperator, rhs: Rows) -> LinearSolution:
        """Factorise C; one product with H shows how far the answer is off."""
        if operator.preconditioner is None:
            raise SettingError(
                "solver",
                "'gauss_newton' needs an objective with a Gauss-Newton matrix: this one has none, "
                "so take 'cholesky'",
            )
        blocks = operator.preconditioner()
        factorised = factorise(blocks, self.inverse_iterations)
        u = factorised.inverse(rhs)
        hu = operator.matvec(u)
        broken = ~torch.isfinite(hu).all(dim=-1)
        along_u = dot(u, hu) / dot(u, u)
        # 0/0 for v = 0, which says nothing about H.
        along_u = torch.where((u == 0).all(dim=-1), torch.inf, along_u)
        curvature = torch.where(broken, torch.nan, factorised.curvature.minimum(along_u))
        status = factorised.status.clone()
        zero = rounding(rhs.shape[-1], torch.linalg.matrix_norm(blocks))
        status[(status == LinearStatus.SOLVED) & (along_u <= zero)] = LinearStatus.INDEFINITE
        status[broken] = LinearStatus.SINGULAR

        def inverse(w: Rows) -> Rows:
            return torch.where(broken.unsqueeze(-1), 0.0, factorised.inverse(w))

        judged = replace(factorised, inverse=inverse, status=status, curvature=curvature)
        return judged.solution(lambda _: hu, rhs)
