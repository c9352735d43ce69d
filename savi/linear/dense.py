"""What the direct solvers share: safe factors, the status of a block, its smallest eigenvalue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from savi.linear.base import (
    LinearSolution,
    LinearSolver,
    LinearStatus,
    irregular,
    rounding,
    true_residual,
)
from savi.settings import setting
from savi.types import Blocks, Counts, Mask, PerExample, Rows


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
