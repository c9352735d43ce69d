"""Products and reductions over a batch, in which what all examples share has a batch of one."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def times(matrix: Float[Tensor, "S R C"], v: Float[Tensor, "B C"]) -> Float[Tensor, "B R"]:
    """M v per example, with S = B, or S = 1 for one matrix that all share."""
    if matrix.shape[0] == 1:
        return v @ matrix[0].mT
    return (matrix @ v.unsqueeze(-1)).squeeze(-1)


def lower_solve(
    factor: Float[Tensor, "S K K"], v: Float[Tensor, "B K"], transpose: bool = False
) -> Float[Tensor, "B K"]:
    """L⁻¹ v, or L⁻ᵀ v, with S = B or S = 1."""
    matrix = factor.mT if transpose else factor
    if factor.shape[0] == 1:
        return torch.linalg.solve_triangular(matrix[0].mT, v, upper=not transpose, left=False)
    rhs = v.unsqueeze(-1)
    return torch.linalg.solve_triangular(matrix, rhs, upper=transpose).squeeze(-1)


def largest(v: Float[Tensor, "*shape P"]) -> Float[Tensor, "*shape"]:
    """max|v| over the last dimension; 0 where there is nothing."""
    return v.abs().amax(dim=-1) if v.shape[-1] else v.sum(dim=-1)


def or_one(size: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """A positive size to divide by: 1 in place of 0."""
    return torch.where(size > 0, size, 1.0)


def take(tensor: Tensor, index: Int[Tensor, " A"]) -> Tensor:
    """The rows of these examples, or the one that they share."""
    return tensor if tensor.shape[0] == 1 else tensor[index]


def outer(a: Float[Tensor, "B P"], b: Float[Tensor, "B N"], shared: bool) -> Float[Tensor, "S P N"]:
    """The matrix a bᵀ per example, or their sum for one matrix that all share."""
    return (a.mT @ b).unsqueeze(0) if shared else a.unsqueeze(-1) * b.unsqueeze(-2)
