"""A quadratic program with inequalities only: interior point, then one exact step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from savi.implicit.qp.active_set import ActiveSet
from savi.implicit.qp.interior_point import interior_point
from savi.implicit.qp.problem import Curvature, QPData
from savi.implicit.qp.residual import kkt_residual
from savi.implicit.qp.scaled import Iterate, or_one, take, times

#: Changes of the constraints that are taken for active, where the first guess has wrong signs.
CORRECTIONS = 4
#: Steps of the polish at most; the second one refines the first.
POLISHES = 2
#: Residuals below this are rounding errors, and say nothing about which point is better.
ROUNDING = 1e-14


@dataclass(frozen=True)
class ReducedSolution:
    """The solution of: minimise ½wᵀHw + cᵀw subject to Gw <= h.

    Attributes:
        w: the minimiser.
        z: the multipliers, exactly 0 where ``polished`` and inactive.
        steps: of the interior-point method.
        polished: where the step to the solution of the active constraints was an improvement.
        active_set: which constraints are active, and the factors of their KKT matrix.
    """

    w: Float[Tensor, "B k"]
    z: Float[Tensor, "B p"]
    steps: Int[Tensor, " B"]
    polished: Bool[Tensor, " B"]
    active_set: ActiveSet


def solve_reduced(
    H: Curvature,
    c: Float[Tensor, "B k"],
    G: Float[Tensor, "S p k"],
    h: Float[Tensor, "B p"],
    tolerance: float,
    max_steps: int,
) -> ReducedSolution:
    """Solve by the interior-point method, and polish.

    An interior point comes to the solution up to √tolerance only where strict complementarity
    fails. The constraints that it shows to be active define a linear system, whose solution is
    exact: it is kept where its KKT residual, signs included, is not larger. Where a sign is wrong,
    close to a kink, the constraints are corrected by the signs, and the system is solved again.
    """
    ended = interior_point(H.matrix, c, G, h, H.definite, tolerance, max_steps)
    data = without_equalities(H.matrix, c, G, h)
    w, z, active = ended.iterate.w, ended.iterate.z, ended.active
    error = kkt_residual(data, w, w[:, :0], z).error.clamp_min(ROUNDING)
    for corrections in range(CORRECTIONS + 1):
        active_set = ActiveSet.factorised(H, G, active)
        new_w, new_z, new_error = _polish(data, active_set, ended.iterate)
        polished = new_error <= error
        corrected = (active & (new_z > 0)) | (~active & (times(G, new_w) > h))
        # A guess that leads nowhere is taken back, with the factors of the first one.
        last = ended.active if corrections == CORRECTIONS - 1 else corrected
        wrong = ~polished & ended.converged & (last != active).any(dim=-1)
        if not wrong.any():
            break
        active = torch.where(wrong.unsqueeze(-1), last, active)
    w = torch.where(polished.unsqueeze(-1), new_w, w)
    z = torch.where(polished.unsqueeze(-1), new_z, z)
    return ReducedSolution(w, z, ended.steps, polished, active_set)


def _polish(
    data: QPData, active_set: ActiveSet, start: Iterate
) -> tuple[Float[Tensor, "B k"], Float[Tensor, "B p"], Float[Tensor, " B"]]:
    """The solution of the active constraints' linear system, from close by, and its residual."""
    H, c, _, _, G, h = data
    w, z = start.w, active_set.mask * start.z
    for _ in range(POLISHES):
        stationarity = times(H, w) + c + times(G.mT, z)
        dw, dz = active_set.solve(-stationarity, h - times(G, w))
        w, z = w + dw, z + dz
        if not active_set.refine.any():
            break
    return w, z, kkt_residual(data, w, w[:, :0], z).error


def without_equalities(H: Tensor, c: Tensor, G: Tensor, h: Tensor) -> QPData:
    """The program as one with no rows of A."""
    return QPData(H, c, H.new_zeros(1, 0, H.shape[-1]), H.new_zeros(1, 0), G, h)


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
