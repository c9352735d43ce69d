"""The solutions of Ax = b, and the examples of a batch whose A have the same rank."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from savi.implicit.qp.equilibration import Units
from savi.implicit.qp.matrices import Batched, largest, or_one, row_norms, take
from savi.linear.dense import identity_unless
from savi.types import Constraints, Index, Mask

#: A row of A closer than this to the span of the others, relative to its norm, is redundant.
DEPENDENT = 1e-9


@dataclass(frozen=True)
class Nullspace(Batched):
    """The solutions of Ax = b.

    Attributes:
        basis: N, orthonormal columns that span the null space of A.
        inverse: Y, a generalised inverse: A Y A = A. The pseudo-inverse where A has full rank.
        range: orthonormal columns that span the range of A where rows of A depend on the others.
            Then Ax = b may have no solution, and of all multipliers y the shortest is taken, which
            lies there.
        undecided: where rows that were left out depend on the others by no rounding error.
    """

    basis: Float[Tensor, "S n k"]
    inverse: Float[Tensor, "S n m"]
    range: Float[Tensor, "S m r"] | None = None
    undecided: Mask | None = None


#: Examples whose A have the same rank, None for all of them, and what Ax = b leaves free, None
#: for everything.
RankGroup = tuple[Index | None, Nullspace | None]


def rank_groups(A: Constraints, batch: int) -> list[RankGroup]:
    """Split a batch by the rank of A; there is one group if all have full rank.

    N and Y come from Aᵀ = [Y₁ N] [R; 0], Y = Y₁R⁻ᵀ, and from the singular value decomposition where
    rows are dependent. No space is needed without equalities.
    """
    m, n = A.shape[1:]
    if m == 0:
        return [(None, None)]
    scale = row_norms(A).unsqueeze(-1)
    unit = A / scale
    if m > n:
        return _by_singular_values(A, torch.arange(batch, device=A.device))
    orthogonal, triangular = torch.linalg.qr(unit.mT, mode="complete")
    R = triangular[:, :m]
    full = (R.diagonal(dim1=-2, dim2=-1).abs() > DEPENDENT).all(dim=-1)
    # Y = Y₁R⁻ᵀ, in the units of A.
    lower = identity_unless(full, R).mT
    Y = torch.linalg.solve_triangular(lower, orthogonal[..., :m], upper=False, left=False)
    space = Nullspace(orthogonal[..., m:], Y / scale.mT)
    if full.all():
        return [(None, space)]
    full = full.expand(batch)
    groups = _by_singular_values(A, torch.nonzero(~full).squeeze(-1))
    if full.any():
        index = torch.nonzero(full).squeeze(-1)
        regular = Nullspace(take(space.basis, index), take(space.inverse, index))
        groups.append((index, regular))
    return groups


def _by_singular_values(A: Constraints, index: Index) -> list[RankGroup]:
    """In units that equilibrate A, in which dependent rows differ from a small column."""
    A = take(A, index)
    units = Units.of_rows(A)
    x, y = units.x.unsqueeze(-1), units.y.unsqueeze(-1)
    U, sigma, Vh = torch.linalg.svd(y * A * x.mT, full_matrices=True)
    ranks = (sigma > DEPENDENT * or_one(sigma[:, :1])).sum(dim=-1)
    groups: list[RankGroup] = []
    for rank in torch.unique(ranks).tolist():
        chosen = torch.nonzero(ranks == rank).squeeze(-1)
        u, v, rows, columns = (take(t, chosen) for t in (U, Vh, y, x))
        u, inverted = u[..., :rank], 1.0 / take(sigma, chosen)[:, None, :rank]
        inverse = columns * (v[:, :rank].mT @ (u * inverted).mT) * rows.mT
        null, range_ = (torch.linalg.qr(M).Q for M in (columns * v[:, rank:].mT, u / rows))
        space = Nullspace(null, inverse)
        if rank < A.shape[1]:
            left_out = largest(take(sigma, chosen)[:, rank:])
            noise = 4.0 * max(A.shape[1:]) * torch.finfo(A.dtype).eps * take(sigma, chosen)[:, 0]
            space = replace(space, range=range_, undecided=left_out > noise)
        groups.append((index if U.shape[0] == 1 else index[chosen], space))
    return groups
