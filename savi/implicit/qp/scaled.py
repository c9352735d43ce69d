"""A program in units in which tolerances have a meaning, and a point on the way to its solution."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

#: What is added to the diagonal of a scaled H that is not definite: a proximal term.
PROXIMAL = 1e-10


@dataclass
class Iterate:
    """minimise ½wᵀHw + cᵀw subject to Gw + s = h, s >= 0, with the multipliers z >= 0."""

    w: Float[Tensor, "B k"]
    z: Float[Tensor, "B p"]
    s: Float[Tensor, "B p"]

    def take(self, index: Int[Tensor, " A"]) -> Iterate:
        """The rows of these examples."""
        return Iterate(self.w[index], self.z[index], self.s[index])


@dataclass(frozen=True)
class ScaledProblem:
    """H, c, G, h, with the rows of G of norm 1, max|h| = 1 (or 0) and max(|H|, |c|) = 1.

    Attributes:
        length: the unit of w, per example.
        price: the unit of the objective, per example.
        rows: the norms of the rows of G before.
        proximal: what is added to the diagonal of H in the normal matrix.
    """

    H: Float[Tensor, "S k k"]
    c: Float[Tensor, "B k"]
    G: Float[Tensor, "S p k"]
    h: Float[Tensor, "B p"]
    length: Float[Tensor, "B 1"]
    price: Float[Tensor, "B 1"]
    rows: Float[Tensor, "S p"]
    proximal: Float[Tensor, "S 1"]

    @classmethod
    def scaled(
        cls, H: Tensor, c: Tensor, G: Tensor, h: Tensor, definite: Bool[Tensor, " S"]
    ) -> ScaledProblem:
        """Bring a problem to the units in which tolerances have a meaning."""
        rows = or_one(torch.linalg.vector_norm(G, dim=-1))
        h = h / rows
        size = largest(H.flatten(1)).unsqueeze(-1)
        # A cone has no length of its own; that of the objective is left.
        free = or_one(largest(c).unsqueeze(-1) / or_one(size))
        length = largest(h).unsqueeze(-1)
        length = torch.where(length > 0, length, free)
        price = or_one(torch.maximum(length.square() * size, length * largest(c).unsqueeze(-1)))
        factor = (length.square() / price).unsqueeze(-1)
        if H.shape[0] == 1 and bool((factor == factor[:1]).all()):
            factor = factor[:1]
        proximal = torch.where(definite, 0.0, PROXIMAL).to(c.dtype).unsqueeze(-1)
        return cls(
            H * factor,
            c * (length / price),
            G / rows.unsqueeze(-1),
            h / length,
            length,
            price,
            rows,
            proximal,
        )

    def take(self, index: Int[Tensor, " A"]) -> ScaledProblem:
        """The problems of these examples."""
        fields = (self.H, self.c, self.G, self.h, self.length, self.price, self.rows, self.proximal)
        return ScaledProblem(*(take(field, index) for field in fields))

    def unscaled(self, iterate: Iterate) -> Iterate:
        """An iterate in the units of the problem as it was given."""
        return Iterate(
            iterate.w * self.length,
            iterate.z * (self.price / self.length / self.rows),
            iterate.s * (self.length * self.rows),
        )


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
