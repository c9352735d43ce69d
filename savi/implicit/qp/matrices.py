"""Batches of matrices, one per example or one for all: products, triangular solves, curvature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from savi.linear.dense import safe_cholesky
from savi.types import Index, Symmetric

#: A squared pivot of the Cholesky factor below this part of the largest entry needs a closer look.
DOUBTFUL = 1e-9


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


def outer(a: Float[Tensor, "B P"], b: Float[Tensor, "B N"], shared: bool) -> Float[Tensor, "S P N"]:
    """The matrix a bᵀ per example, or their sum for one matrix that all share."""
    return (a.mT @ b).unsqueeze(0) if shared else a.unsqueeze(-1) * b.unsqueeze(-2)


def take(tensor: Tensor, index: Index) -> Tensor:
    """The rows of these examples, or the one that they share."""
    return tensor if tensor.shape[0] == 1 else tensor[index]


class Batched:
    """A base of dataclasses of tensors, or of other batches, with rows that belong to examples."""

    def take(self, index: Index) -> Self:
        """That of these examples."""
        return type(self)(*(_taken(v, index) for v in vars(self).values()))


def _taken(value: Any, index: Index) -> Any:
    """Of a tensor, of what consists of tensors, or None of what is not there."""
    if value is None:
        return None
    return take(value, index) if isinstance(value, Tensor) else value.take(index)


def largest(v: Float[Tensor, "*shape P"]) -> Float[Tensor, "*shape"]:
    """max|v| over the last dimension; 0 where there is nothing."""
    return v.abs().amax(dim=-1) if v.shape[-1] else v.sum(dim=-1)


def or_one(size: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """A positive size to divide by: 1 in place of 0."""
    return torch.where(size > 0, size, 1.0)


def row_norms(M: Float[Tensor, "S R C"]) -> Float[Tensor, "S R"]:
    """Euclidean norms of the rows, to divide by: 1 for a row of 0."""
    return or_one(torch.linalg.vector_norm(M, dim=-1))


@dataclass(frozen=True)
class Curvature(Batched):
    """The matrices H of ½wᵀHw, one per example or one for all.

    Attributes:
        matrix: H, with the eigenvalues that cannot be told from 0 set to 0.
        factor: L of H = LLᵀ where ``definite``.
        definite: which are positive definite, and not close to singular.
        negative: which have a negative eigenvalue.
    """

    matrix: Symmetric
    factor: Symmetric
    definite: Bool[Tensor, " S"]
    negative: Bool[Tensor, " S"]

    @classmethod
    def judged(
        cls, H: Symmetric, eps: float, gross: Callable[[], Symmetric] | None = None
    ) -> Curvature:
        """Judge symmetric matrices whose entries are rounded to a relative ``eps``.

        It is D^-½ H D^-½ that is judged, with D = |diag H|, so that the units of the variables do
        not matter. Where the entries of H are sums, ``gross`` gives those of the absolute terms:
        what is below their rounding errors is 0.
        """
        root = _scales(H, eps, gross is not None).sqrt()
        factor, definite = safe_cholesky(H)
        ones = torch.ones_like(definite, dtype=H.dtype)
        definite = definite & well_pivoted(factor / root.unsqueeze(-1), ones, DOUBTFUL)
        negative = torch.zeros_like(definite)
        doubtful = ~definite
        if H.shape[-1] and doubtful.any():
            root = root[doubtful]
            rounding = 4.0 * H.shape[-1] * eps
            scales = root.unsqueeze(-1) * root.unsqueeze(-2)
            values, vectors = torch.linalg.eigh(H[doubtful] / scales)
            noise = rounding * largest(values).unsqueeze(-1)
            if gross is not None:
                ways = (vectors / root.unsqueeze(-1)).abs()
                noise = noise.maximum(rounding * (ways * (gross()[doubtful] @ ways)).sum(dim=-2))
            negative[doubtful] = (values < -noise).any(dim=-1)
            cleaned = torch.where(values.abs() <= noise, 0.0, values)
            blocks = (vectors * cleaned.unsqueeze(-2)) @ vectors.mT * scales
            # A coordinate without curvature has exactly none, and no unit made of rounding errors.
            curved = (H.diagonal(dim1=-2, dim2=-1)[doubtful] > 0).to(H.dtype)
            H = H.clone()
            H[doubtful] = blocks * curved.unsqueeze(-1) * curved.unsqueeze(-2)
        return cls(H, factor, definite, negative)

    @classmethod
    def identity(cls, like: Tensor, size: int) -> Curvature:
        """H = I for all examples."""
        identity = torch.eye(size, dtype=like.dtype, device=like.device).unsqueeze(0)
        true = torch.ones(1, dtype=torch.bool, device=like.device)
        return cls(identity, identity, true, ~true)


def _scales(H: Symmetric, eps: float, rotated: bool) -> Float[Tensor, "S n"]:
    """D; the largest entry in place of a 0, and of what is negative by rounding."""
    size = or_one(largest(H.flatten(1))).unsqueeze(-1)
    diagonal = H.diagonal(dim1=-2, dim2=-1)
    if rotated:
        return diagonal.abs().maximum(4.0 * H.shape[-1] * eps * size)
    return torch.where((diagonal > 0) | (diagonal < -0.5 * eps * size), diagonal.abs(), size)


def well_pivoted(factor: Symmetric, size: Float[Tensor, " S"], least: float) -> Bool[Tensor, " S"]:
    """Whether all squared pivots of a Cholesky factor exceed a part of ``size``."""
    pivots = factor.diagonal(dim1=-2, dim2=-1)
    return (pivots.square() > least * size.unsqueeze(-1)).all(dim=-1)
