"""The absolute value |A| of symmetric matrices, with a derivative for repeated eigenvalues too."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

#: Relative to the largest |λ|: eigenvalues of |A| are at least about this large.
FLOOR = 1e-6


def absolute(matrix: Float[Tensor, "B P P"]) -> Float[Tensor, "B P P"]:
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
        slope = torch.where(run == 0, own.unsqueeze(-1), rise / torch.where(run == 0, 1.0, run))
        inner = vectors.mT @ (0.5 * (direction + direction.mT)) @ vectors
        return vectors @ (slope * inner) @ vectors.mT

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Nothing to keep."""

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> None:
        raise RuntimeError(
            "inner.optimizer 'newton' has no second derivative where the Hessian is not positive "
            "definite: set inner.optimizer=levenberg_marquardt, or do not differentiate its "
            "gradient again"
        )
