"""The P×P blocks as matrices: their products and factors, and the solvers that factorise them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from savi.errors import SettingError
from savi.linear.base import (
    SOLVERS,
    LinearSolution,
    LinearSolver,
    LinearStatus,
    Rough,
    SymmetricOperator,
    dot,
    irregular,
    rounding,
    true_residual,
)
from savi.settings import setting
from savi.types import Blocks, Counts, Mask, PerExample, Rows

#: A batch of vectors ↦ their images.
Map: TypeAlias = Callable[[Tensor], Tensor]


def finite_blocks(blocks: Blocks) -> Mask:
    """Which blocks hold finite numbers only."""
    # 0·x is 0 for a finite x and NaN otherwise: far cheaper than to ask every number.
    return (0.0 * blocks).flatten(1).sum(dim=-1) == 0


def plus_diagonal(blocks: Blocks, diagonal: Float[Tensor, "#B #P"]) -> Blocks:
    """C + diag(d), differentiable."""
    result = blocks.clone()
    result.diagonal(dim1=-2, dim2=-1).add_(diagonal)
    return result


def identity_unless(usable: Mask, blocks: Blocks) -> Blocks:
    """The usable blocks, and the identity for the others, so that all can be factorised."""
    identity = torch.eye(blocks.shape[-1], dtype=blocks.dtype, device=blocks.device)
    return torch.where(usable[:, None, None], blocks, identity)


def safe_cholesky(blocks: Blocks) -> tuple[Blocks, Mask]:
    """L of C = L Lᵀ and which blocks have one; L = I for the others."""
    factor, info = torch.linalg.cholesky_ex(blocks)
    definite = (info == 0) & finite_blocks(factor)
    return identity_unless(definite, factor), definite


def by_cholesky(factor: Blocks, v: Rows) -> Rows:
    """L⁻ᵀ L⁻¹ v."""
    return torch.cholesky_solve(v.unsqueeze(-1), factor).squeeze(-1)


def multiply(blocks: Float[Tensor, "B M P"], v: Rows) -> Float[Tensor, "B M"]:
    """One product of a block and a vector per example."""
    return (blocks @ v.unsqueeze(-1)).squeeze(-1)


def rank_tolerance(spectrum: Rows) -> PerExample:
    """P ε max|·|: an eigenvalue below it cannot be told from 0."""
    return spectrum.shape[-1] * torch.finfo(spectrum.dtype).eps * spectrum.abs().amax(dim=-1)


def judge(
    blocks: Blocks, definite: Mask, inverse: Callable[[Tensor], Tensor], iterations: int
) -> tuple[Counts, PerExample]:
    """The status and the smallest eigenvalue of every block.

    Inverse iteration serves the blocks that a factorisation found ``definite``; the others, and
    those that rounding alone may have made definite, are judged by all their eigenvalues.
    """
    status = torch.full_like(definite, LinearStatus.SOLVED, dtype=torch.long)
    curvature = _inverse_iteration(inverse, irregular(blocks[..., 0]), iterations)
    # ‖H‖ is at least λ_max: a block that its eigenvalues would call singular is in doubt.
    size = torch.linalg.matrix_norm(blocks)
    doubtful = ~definite | ~(curvature > rounding(blocks.shape[-1], size))
    if doubtful.any():
        status[doubtful], curvature[doubtful] = _by_eigenvalues(blocks[doubtful])
    return status, curvature


def _inverse_iteration(inverse: Callable[[Tensor], Tensor], w: Rows, iterations: int) -> PerExample:
    """1 / ‖H⁻¹w‖ for the w that inverse iteration turns towards the softest direction."""
    size = torch.linalg.vector_norm(w, dim=-1, keepdim=True)
    for _ in range(iterations):
        w = inverse(w / size)
        size = torch.linalg.vector_norm(w, dim=-1, keepdim=True)
    return 1.0 / size.squeeze(-1)


def _by_eigenvalues(blocks: Float[Tensor, "F P P"]) -> tuple[Tensor, Tensor]:
    finite = finite_blocks(blocks)
    eigenvalues = torch.linalg.eigvalsh(identity_unless(finite, blocks))
    singular = ~finite | (eigenvalues.abs().amin(dim=-1) <= rank_tolerance(eigenvalues))
    smallest = eigenvalues[:, 0]
    status = torch.where(smallest > 0, LinearStatus.SOLVED, LinearStatus.INDEFINITE).long()
    status[singular] = LinearStatus.SINGULAR
    return status, torch.where(finite, smallest, torch.nan)


def solve_cholesky(matrix: Blocks, rhs: Rows) -> tuple[Rows, Mask]:
    """Solve with positive definite blocks; says which blocks were not, and answers 0 for them."""
    factor, info = torch.linalg.cholesky_ex(matrix)
    failed = (info != 0) | ~finite_blocks(factor.detach())
    if failed.any():
        # A failed factor holds garbage, which would reach the gradient even under a zero cotangent.
        factor = torch.linalg.cholesky(identity_unless(~failed, matrix))
        rhs = torch.where(failed.unsqueeze(-1), torch.zeros_like(rhs), rhs)
    return by_cholesky(factor, rhs), failed


@dataclass(frozen=True)
class Factorised:
    """Blocks C that are factorised.

    Attributes:
        inverse: w [B, P] -> C⁻¹ w, 0 for a singular block.
        status: shape [B], integer values of :class:`LinearStatus`.
        curvature: an estimate from above of the smallest eigenvalue of C, shape [B].
    """

    inverse: Callable[[Tensor], Tensor]
    status: Counts
    curvature: PerExample

    def solution(self, product: Callable[[Tensor], Tensor], rhs: Rows) -> LinearSolution:
        """Take u = C⁻¹ v with its residual ‖H u − v‖; ``product`` is u ↦ H u."""
        u = self.inverse(rhs)
        # H 0 is not 0 for a block H that is not finite.
        residual = torch.where(
            self.status == LinearStatus.SINGULAR,
            torch.linalg.vector_norm(rhs, dim=-1),
            true_residual(product(u), rhs),
        )
        return self.given(u, residual)

    def given(self, u: Rows, residual: PerExample) -> LinearSolution:
        """A solution that is known, with its residual."""
        steps = torch.zeros_like(self.status)
        return LinearSolution(u, residual, steps, self.status, self.curvature, self.inverse)


@dataclass(frozen=True)
class DirectSolver(LinearSolver):
    """A solver that factorises the blocks.

    Args:
        inverse_iterations: steps of inverse iteration that estimate the smallest eigenvalue.

    Raises:
        InputError: if ``inverse_iterations`` is below 1.
    """

    inverse_iterations: int = setting(4, at_least=1)
    direct: ClassVar[bool] = True

    def solve(self, operator: SymmetricOperator, rhs: Rows) -> LinearSolution:
        """With the factors of all blocks, computed at once."""
        rough = operator.rough()
        refined = None if rough is None else self._refined(rough, rhs)
        if refined is not None:
            return refined
        hessian = operator.dense()
        return self.factorise(hessian).solution(lambda u: multiply(hessian, u), rhs)

    def _refined(self, rough: Rough, rhs: Rows) -> LinearSolution | None:
        """By factors C of the rough blocks, u ← u + C⁻¹(v − H u) from u = 0; None where that fails.

        Iterative refinement (Wilkinson 1963; Carson and Higham, SIAM J. Sci. Comput. 40, 2018):
        each pass leaves the residual the rounding of the blocks times their condition. Blocks that
        are worse conditioned than two passes can mend are replaced by exact ones. The residual is
        that of H itself; what the blocks say of their smallest eigenvalue is true to their digits.
        """
        enough = torch.finfo(rhs.dtype).eps ** 0.5
        factorised = self.factorise(rough.blocks)
        u, left = torch.zeros_like(rhs), rhs
        for passes in range(1, 2 * PASSES + 1):
            u = u + factorised.inverse(left)
            left = rhs - rough.matvec(u)
            residual = torch.linalg.vector_norm(left, dim=-1)
            unsolved = ~(residual <= enough)
            if not unsolved.any():
                inverse = partial(_refinement, rough.matvec, factorised.inverse, passes)
                return replace(factorised.given(u, residual), inverse=inverse)
            if passes == PASSES:
                index = unsolved.nonzero().squeeze(-1)
                if 2 * len(index) > len(rhs):
                    return None
                exact = rough.blocks.index_copy(0, index, rough.exact(index))
                factorised = self.factorise(exact)
        return None

    def factorise(self, blocks: Blocks) -> Factorised:
        """All blocks at once; by Cholesky, or LU for those that are not definite."""
        return factorise(blocks, self.inverse_iterations)


#: Of refinement: what they leave is for exact blocks.
PASSES = 2


def _refinement(product: Map, inverse: Map, passes: int, v: Rows) -> Rows:
    """H⁻¹v by so many passes, at most those that rough blocks are good for."""
    u = inverse(v)
    for _ in range(min(passes, PASSES) - 1):
        u = u + inverse(v - product(u))
    return u


@SOLVERS.register("cholesky")
@dataclass(frozen=True)
class Cholesky(DirectSolver):
    """H = L Lᵀ, u = L⁻ᵀ L⁻¹ v.

    A block that is not positive definite is no minimum: it is reported as ``INDEFINITE`` and
    solved by LU, which is still the right answer of the linear system. A singular block is
    reported and answered with 0.
    """

    name: ClassVar[str] = "cholesky"


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
    """

    name: ClassVar[str] = "ldl"

    def factorise(self, blocks: Blocks) -> Factorised:
        """All blocks at once, whatever the signs of their eigenvalues."""
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

    Raises:
        InputError: if the operator has no Gauss–Newton matrix.
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
        factorised = self.factorise(blocks)
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
