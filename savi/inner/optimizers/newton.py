"""Newton's method with the exact Hessian, made safe for saddle points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from savi.inner.objective import InnerObjective
from savi.inner.optimizers.base import OPTIMIZERS
from savi.inner.optimizers.levenberg_marquardt import LevenbergMarquardt
from savi.linear.dense import finite_blocks
from savi.types import Blocks, Rows


@OPTIMIZERS.register("newton")
@dataclass(frozen=True)
class Newton(LevenbergMarquardt):
    """Solve (|H| + μ D) δ = −∇J and accept y + δ only where it lowers J.

    H = ∇²J(y) is exact, and |H| has its eigenvectors with the absolute eigenvalues: the
    saddle-free Newton step of Dauphin et al. (2014, arXiv 1406.2572), which is drawn to minima and
    repelled by saddle points and maxima. Where H is positive definite, |H| = H. Damping and
    acceptance are those of :class:`LevenbergMarquardt`: J never rises.

    Near a minimum the convergence is superlinear, where Gauss–Newton's is linear. It costs a
    Hessian a step: P Hessian-vector products, unless the objective knows better.
    """

    name: ClassVar[str] = "newton"

    def matrix(self, objective: InnerObjective, y: Rows, create_graph: bool) -> Blocks:
        """|H|, by an eigendecomposition of those H alone that are not positive definite."""
        hessian = objective.exact_curvature(y, create_graph)
        with torch.no_grad():
            factor, info = torch.linalg.cholesky_ex(hessian)
            indefinite = (info != 0) | ~finite_blocks(factor)
            # One that is not finite has no decomposition, and gives no step.
            (rows,) = (indefinite & finite_blocks(hessian)).nonzero(as_tuple=True)
        if len(rows) == 0:
            return hessian
        return hessian.index_put((rows,), absolute(hessian[rows]))


#: Relative to the largest |λ|: eigenvalues of |A| are at least about this large.
FLOOR = 1e-6


def absolute(matrix: Blocks) -> Blocks:
    """|A| = U f(Λ) Uᵀ with A = U Λ Uᵀ, f(λ) = max(|λ|, φ), and φ about 1e-6 max|λ|.

    φ is a power of two, and so piecewise constant in A. The derivative is that of Daleckii and
    Krein, D|A|[E] = U (K ∘ UᵀEU) Uᵀ, with K_ij = (f(λ_i) − f(λ_j)) / (λ_i − λ_j), and f'(λ_i) where
    the two are equal: unlike that of U itself, it exists there. Because f is linear in pieces, no
    K_ij suffers cancellation.

    Args:
        matrix: A, finite and symmetric.

    Returns:
        |A|, whose second derivative is refused.
    """
    value, *_ = _Absolute.apply(matrix)
    return value


class _Absolute(torch.autograd.Function):
    """A ↦ |A|, and the U, Λ and f(Λ) that its derivative needs."""

    @staticmethod
    def forward(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        eigenvalues, vectors = torch.linalg.eigh(matrix)
        sizes = eigenvalues.abs()
        floor = torch.exp2((FLOOR * sizes.amax(dim=-1, keepdim=True)).log2().floor())
        images = sizes.maximum(floor)
        value = (vectors * images.unsqueeze(-2)) @ vectors.mT
        return value, vectors, eigenvalues, images

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, ...]) -> None:
        """Keep the decomposition, and A for the refusal of a second derivative."""
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*inputs, *output[1:])

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor, *others: Tensor) -> Tensor:
        """The derivative is its own adjoint."""
        return _Derivative.apply(cotangent, *ctx.saved_tensors)


class _Derivative(torch.autograd.Function):
    """E ↦ D|A|[E], which refuses to be differentiated: K depends on A."""

    @staticmethod
    def forward(
        direction: Tensor, matrix: Tensor, vectors: Tensor, eigenvalues: Tensor, images: Tensor
    ) -> Tensor:
        rise = images.unsqueeze(-1) - images.unsqueeze(-2)
        run = eigenvalues.unsqueeze(-1) - eigenvalues.unsqueeze(-2)
        own = torch.where(images == eigenvalues.abs(), eigenvalues.sign(), 0.0)
        ratio = torch.where(run == 0, own.unsqueeze(-1), rise / torch.where(run == 0, 1.0, run))
        inner = vectors.mT @ (0.5 * (direction + direction.mT)) @ vectors
        return vectors @ (ratio * inner) @ vectors.mT

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Nothing to keep."""

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> None:
        raise RuntimeError(
            "optimizer 'newton' has no second derivative where the Hessian is not positive "
            "definite: take 'levenberg_marquardt', or do not differentiate its gradient again"
        )
