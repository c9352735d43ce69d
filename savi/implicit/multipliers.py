"""The Lagrange multipliers of a solution that came without them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from savi.implicit.problem import Problem
from savi.implicit.system import jacobian
from savi.linear.dense import finite_blocks, identity_unless, multiply
from savi.types import Active, Equalities, Inequalities, PerExample, Points


@dataclass(frozen=True)
class Multipliers:
    """What belongs to a solution x besides x itself.

    Attributes:
        equality: u.
        inequality: v ≥ 0; 0 where a constraint is not active.
        active: which inequalities hold x back.
        touching: which inequalities hold with equality, active or not.
        force: ‖v_i ∇g_i‖, by which each of them does so.
        size: that of the coordinates that each inequality is about.
        violation: how far x lies outside of the worst constraint, by the same measure.
    """

    equality: Equalities
    inequality: Inequalities
    active: Active
    touching: Active
    force: Inequalities
    size: Inequalities
    violation: PerExample


def multipliers(
    problem: Problem, x: Points, params: tuple[Tensor, ...], tolerance: float
) -> Multipliers:
    """The u and v ≥ 0 that solve ∇f + (∂h/∂x)ᵀu + (∂g/∂x)ᵀv = 0 in the least-squares sense.

    An inequality may have a multiplier if x is on its boundary: if the distance that the linearised
    constraint shows is below ``tolerance`` times the size of the coordinates that the constraint
    is about, or of a hundredth of x, the larger (of 1 for x = 0). A multiplier that comes out below
    0 is set to 0, the lowest first, until none is left (Lawson and Hanson's loop without its
    returns).
    """
    with torch.enable_grad():
        point = x.detach().requires_grad_()
        objective, h, g = problem.values(point, *(t.detach() for t in params))
        gradient = jacobian(objective.unsqueeze(-1), point).squeeze(-2)
        normals = torch.cat([jacobian(h, point), jacobian(g, point)], dim=-2)
    m, tiny = h.shape[-1], torch.finfo(x.dtype).tiny
    lengths = torch.linalg.vector_norm(normals, dim=-1).clamp_min(tiny)
    outside = torch.cat([h.abs(), g], dim=-1).detach() / lengths
    # The coordinates that a constraint is about may be smaller than the others.
    local = multiply(normals.abs(), x.abs()) / lengths
    whole = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    local = local.maximum(0.01 * torch.where(whole > 0, whole, 100.0))
    outside = outside / local
    touching = outside[:, m:] >= -tolerance
    y, active = _non_negative(normals, touching, gradient)
    return Multipliers(
        equality=y[:, :m],
        inequality=y[:, m:],
        active=active,
        touching=touching,
        force=y[:, m:] * lengths[:, m:],
        size=local[:, m:],
        violation=torch.nn.functional.pad(outside, (1, 0)).amax(dim=-1),
    )


def _non_negative(normals: Tensor, touching: Tensor, gradient: Tensor) -> tuple[Tensor, Active]:
    """The multipliers y of all constraints, equalities first, and which inequalities have one."""
    m = normals.shape[-2] - touching.shape[-1]
    chosen = torch.nn.functional.pad(touching, (m, 0), value=True)
    while True:
        y = _least_squares(normals, chosen, -gradient)
        if m == y.shape[-1]:
            break
        lowest, index = y[:, m:].min(dim=-1)
        rows = (lowest < 0).nonzero().squeeze(-1)
        if not len(rows):
            break
        chosen[rows, m + index[rows]] = False
    return y, chosen[:, m:]


def _least_squares(normals: Tensor, chosen: Tensor, rhs: Tensor) -> Tensor:
    """argmin_y ‖Nᵀy − rhs‖ over the chosen rows of N, that of least norm; 0 for the others."""
    rows = torch.where(chosen.unsqueeze(-1), normals, 0.0)
    usable = (finite_blocks(rows) & torch.isfinite(rhs).all(dim=-1)).unsqueeze(-1)
    rows = torch.where(usable.unsqueeze(-1), rows, 0.0)
    y = multiply(torch.linalg.pinv(rows.mT), torch.where(usable, rhs, 0.0))
    return torch.where(chosen, y, 0.0)


def reduced_curvature(
    hessian: Float[Tensor, "B n n"], normals: Float[Tensor, "B M n"]
) -> tuple[PerExample, PerExample]:
    """The smallest eigenvalue of the Hessian on the directions that the normals leave.

    With N = UΣVᵀ the directions are spanned by the columns of V that belong to no singular value;
    the others get an eigenvalue of 1 + 2‖H‖, which is never the smallest of both.

    Returns:
        The eigenvalue, infinite where no direction is left, and the ‖H‖ n ε below which it cannot
        be told from 0.
    """
    size = hessian.abs().flatten(1).amax(dim=-1)
    finite = torch.isfinite(size) & finite_blocks(normals)
    # In units of its largest entry, so that no square overflows.
    unit = torch.where(finite & (size > 0), size, 1.0)[:, None, None]
    h = identity_unless(finite, 0.5 * (hessian + hessian.mT) / unit)
    n = torch.where(finite[:, None, None], normals, 0.0)
    pinned = torch.linalg.pinv(n) @ n
    free = torch.eye(h.shape[-1], dtype=h.dtype, device=h.device) - pinned
    scale = torch.linalg.matrix_norm(h)
    stiff = 1.0 + 2.0 * scale
    blocks = free @ h @ free + stiff[:, None, None] * pinned
    lowest = unit[:, 0, 0] * torch.linalg.eigvalsh(0.5 * (blocks + blocks.mT))[:, 0]
    left = free.diagonal(dim1=-2, dim2=-1).sum(dim=-1) > 0.5
    flat = unit[:, 0, 0] * scale * h.shape[-1] * torch.finfo(h.dtype).eps
    return torch.where(left, lowest, torch.inf), flat
