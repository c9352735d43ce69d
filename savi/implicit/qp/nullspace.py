"""Equality constraints, eliminated: x = Y b + N w solves Ax = b for every w."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from savi.implicit.qp.batched import or_one, take

#: A row of A closer than this to the span of the others, relative to its norm, is redundant.
DEPENDENT = 1e-10


@dataclass(frozen=True)
class Nullspace:
    """The solutions of Ax = b.

    Attributes:
        basis: N, orthonormal columns that span the null space of A.
        inverse: Y = A⁺, the pseudo-inverse.
        redundant: whether rows of A depend on the others; then Ax = b may have no solution.
    """

    basis: Float[Tensor, "S n k"]
    inverse: Float[Tensor, "S n m"]
    redundant: bool


@dataclass(frozen=True)
class RankGroup:
    """Examples whose A have the same rank; ``index`` None means all."""

    index: Int[Tensor, " A"] | None
    space: Nullspace | None


def rank_groups(A: Float[Tensor, "S m n"], batch: int) -> list[RankGroup]:
    """Split a batch by the rank of A; there is one group if all have full rank.

    N and Y come from Aᵀ = [Y₁ N] [R; 0], Y = Y₁R⁻ᵀ, and from the singular value decomposition where
    rows are dependent. No space is needed without equalities.
    """
    m, n = A.shape[1:]
    if m == 0:
        return [RankGroup(None, None)]
    scale = or_one(torch.linalg.vector_norm(A, dim=-1, keepdim=True))
    unit = A / scale
    if m > n:
        return _by_singular_values(unit, scale, torch.arange(batch, device=A.device))
    orthogonal, triangular = torch.linalg.qr(unit.mT, mode="complete")
    R = triangular[:, :m]
    full = (R.diagonal(dim1=-2, dim2=-1).abs() > DEPENDENT).all(dim=-1)
    # Y = Y₁R⁻ᵀ, in the units of A.
    safe = torch.where(full[:, None, None], R, torch.eye(m, dtype=A.dtype, device=A.device))
    Y = torch.linalg.solve_triangular(safe.mT, orthogonal[..., :m], upper=False, left=False)
    space = Nullspace(orthogonal[..., m:], Y / scale.mT, redundant=False)
    if full.all():
        return [RankGroup(None, space)]
    full = full.expand(batch)
    groups = _by_singular_values(unit, scale, torch.nonzero(~full).squeeze(-1))
    if full.any():
        index = torch.nonzero(full).squeeze(-1)
        regular = Nullspace(take(space.basis, index), take(space.inverse, index), redundant=False)
        groups.append(RankGroup(index, regular))
    return groups


def _by_singular_values(
    unit: Float[Tensor, "S m n"], scale: Float[Tensor, "S m 1"], index: Int[Tensor, " A"]
) -> list[RankGroup]:
    U, sigma, Vh = torch.linalg.svd(take(unit, index), full_matrices=True)
    ranks = (sigma > DEPENDENT * or_one(sigma[:, :1])).sum(dim=-1)
    groups = []
    for rank in torch.unique(ranks).tolist():
        chosen = torch.nonzero(ranks == rank).squeeze(-1)
        u, v = take(U, chosen)[..., :rank], take(Vh, chosen)
        inverse = v[:, :rank].mT @ (u / take(sigma, chosen)[:, None, :rank]).mT
        where = index if U.shape[0] == 1 else index[chosen]
        space = Nullspace(v[:, rank:].mT, inverse / take(take(scale, index), chosen).mT, True)
        groups.append(RankGroup(where, space))
    return groups
