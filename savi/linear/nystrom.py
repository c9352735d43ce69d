"""Conjugate gradients with a randomised low-rank preconditioner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from savi.linear.base import SOLVERS, LinearSolution, LinearStatus, SymmetricOperator, norm
from savi.linear.conjugate_gradients import conjugate_gradients
from savi.linear.dense import finite_blocks, identity_unless, multiply, rank_tolerance
from savi.linear.iterative import IterativeSolver
from savi.settings import setting
from savi.types import Mask, PerExample, Rows


@SOLVERS.register("nystrom")
@dataclass(frozen=True)
class Nystrom(IterativeSolver):
    """Conjugate gradients preconditioned by Ĥ = HΩ (ΩᵀHΩ)⁻¹ ΩᵀH of rank r.

    With Ĥ = U Λ Uᵀ, which costs r products with H, the preconditioner is that of Frangella, Tropp
    and Udell (arXiv 2110.02820, 2021) for no regularisation beside that in H:

        P⁻¹ = λ_r U Λ⁻¹ Uᵀ + I − U Uᵀ,

    which brings the r largest eigenvalues of H down to about the level of the rest. Hataya and
    Yamada (2023) take the inverse of Ĥ + ρI for that of H: that is biased by whatever Ĥ misses,
    and no further work removes the bias. As a preconditioner a poor Ĥ costs steps, not accuracy.

    Ω is the same orthonormal P×r matrix for every example and every call, so that the same system
    gives the same answer. ΩᵀHΩ holds the curvature of H on the space of Ω: an example where that
    is not positive is solved without preconditioner, and its status is ``INDEFINITE``. A
    Gauss–Newton matrix is not used; ``steps`` does not count the r products.

    Args:
        rank: r, at most P; None means P / 2, rounded up.
    """

    rank: int | None = setting(None, at_least=1)
    name: ClassVar[str] = "nystrom"

    def solve(self, operator: SymmetricOperator, rhs: Rows) -> LinearSolution:
        """Sketch H, then iterate; the residual returned is recomputed."""
        size = rhs.shape[-1]
        sketch = _Sketch.of(operator, rhs, min(self.rank or (size + 1) // 2, size))
        max_steps = self.step_limit(size)
        solution = conjugate_gradients(
            operator, rhs, sketch.preconditioner(), self.rtol, max_steps, sketch.scale
        )
        status = solution.status.clone()
        status[(status != LinearStatus.SINGULAR) & ~sketch.definite] = LinearStatus.INDEFINITE
        curvature = solution.min_curvature.minimum(sketch.curvature)
        return replace(solution, status=status, min_curvature=curvature)


@dataclass(frozen=True)
class _Sketch:
    """H on the space of Ω.

    Attributes:
        root: B with Ĥ = B Bᵀ, shape [B, P, r].
        definite: whether ΩᵀHΩ is positive definite, shape [B].
        curvature: its smallest eigenvalue, NaN if H is not finite, shape [B].
        scale: the largest ‖Hω‖ of its columns ω, NaN if H is not finite, shape [B].
    """

    root: Float[Tensor, "B P R"]
    definite: Mask
    curvature: PerExample
    scale: PerExample

    @classmethod
    def of(cls, operator: SymmetricOperator, like: Rows, rank: int) -> _Sketch:
        """Multiply H by each column of Ω."""
        omega = _test_matrix(like, rank)
        columns = [operator.matvec(column.expand_as(like)) for column in omega.mT]
        product = torch.stack(columns, dim=-1)
        core = omega.mT @ product
        finite = finite_blocks(product) & finite_blocks(core)
        eigenvalues, vectors = torch.linalg.eigh(identity_unless(finite, 0.5 * (core + core.mT)))
        definite = finite & (eigenvalues[:, 0] > rank_tolerance(eigenvalues))
        usable = definite[:, None, None]
        root = torch.where(usable, product @ vectors, 0.0)
        root = root / torch.where(usable, eigenvalues.unsqueeze(-2), 1.0).sqrt()
        curvature = torch.where(finite, eigenvalues[:, 0], torch.nan)
        return cls(root, definite, curvature, norm(product.mT).amax(dim=-1))

    def preconditioner(self) -> Callable[[Tensor], Tensor]:
        """Return r ↦ P⁻¹r = r + U (λ_r Λ⁻¹ − I) Uᵀr, or r ↦ r where the sketch is not definite."""
        u, singular_values, _ = torch.linalg.svd(self.root, full_matrices=False)
        # λ = σ², descending.
        ratio = singular_values[:, -1:] / singular_values
        weight = torch.where(self.definite.unsqueeze(-1), ratio.square() - 1.0, 0.0)
        return lambda r: r + multiply(u, weight * multiply(u.mT, r))


def _test_matrix(like: Rows, rank: int) -> Float[Tensor, "P R"]:
    """Ω: the orthonormalised columns of a Gaussian matrix with a fixed seed."""
    generator = torch.Generator().manual_seed(0)
    gaussian = torch.randn(like.shape[-1], rank, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(gaussian).Q.to(like)
