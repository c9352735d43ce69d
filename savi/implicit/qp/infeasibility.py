"""Proofs that a quadratic program has no solution: Farkas' ray, and a ray of descent.

Each is the projection of a vector on a cone, a strictly convex program that always has a solution,
which is 0 if and only if there is no such ray.
"""

from __future__ import annotations

import torch

from savi.implicit.qp.active_set import solve_inequalities
from savi.implicit.qp.matrices import Curvature, largest, or_one, row_norms, times
from savi.implicit.qp.program import InequalityProgram
from savi.types import Constraints, Inequalities, Mask, Points, Symmetric

#: A ray proves its case up to this relative error.
PROOF = 1e-6
_TOLERANCE = 1e-11
_MAX_STEPS = 100
_RANK = 1e-11


def farkas_ray(G: Constraints, h: Inequalities) -> tuple[Inequalities, Mask]:
    """Farkas' ray z >= 0 with Gᵀz = 0 and hᵀz < 0, and where it proves that no w has Gw <= h.

    z is the projection of −h on {z >= 0, Gᵀz = 0}: with P the projector on the null space of Gᵀ,
    z = Pu for the u that minimises ½‖u + h‖² subject to −Pu <= 0. The proof is accepted where
    ‖Gᵀz‖ <= 1e-6 |hᵀz| / max|h| for rows of norm 1: no w of a norm below 1e6 max|h| is feasible.
    """
    if not G.shape[1]:
        return h, torch.zeros(len(h), dtype=torch.bool, device=h.device)
    rows = row_norms(G)
    G, h = G / rows.unsqueeze(-1), h / rows
    h = h / or_one(largest(h)).unsqueeze(-1)
    U, sigma, _ = torch.linalg.svd(G, full_matrices=False)
    kept = U * (sigma > _RANK * or_one(largest(sigma)).unsqueeze(-1)).unsqueeze(-2)
    P = torch.eye(G.shape[1], dtype=G.dtype, device=G.device) - kept @ kept.mT
    u = _nearest(h, -P, torch.zeros_like(h))
    z = times(P, u)
    # Once more at its own size, for what cancellation left outside the null space.
    z = times(P, z / or_one(largest(z)).unsqueeze(-1)).clamp_min(0.0)
    # Rays that hold by rounding alone prove nothing.
    z = torch.where(z > _TOLERANCE, z, 0.0)
    value = (h * z).sum(dim=-1)
    noise = 1e-13 * (h * z).abs().sum(dim=-1)
    miss = torch.linalg.vector_norm(times(G.mT, z), dim=-1)
    return z / rows, (value < -noise) & (miss <= -PROOF * value)


def descent_ray(H: Symmetric, c: Points, G: Constraints) -> tuple[Points, Mask]:
    """A ray d with Hd = 0, Gd <= 0 and cᵀd < 0, along which a feasible program falls for ever.

    d is the projection of −c on {Hd = 0, Gd <= 0}: with P the projector on the null space of H,
    d = Pu for the u that minimises ½‖u + c‖² subject to GPu <= 0. The proof is accepted where
    ‖d‖ = 1 has Gd <= 1e-6 for rows of norm 1, and cᵀd <= −1e-6 ‖c‖.
    """
    values, vectors = torch.linalg.eigh(H)
    flat = values.abs() <= _RANK * or_one(largest(values)).unsqueeze(-1)
    null = vectors * flat.unsqueeze(-2)
    P = null @ null.mT
    c = c / row_norms(c).unsqueeze(-1)
    G = G / row_norms(G).unsqueeze(-1)
    d = times(P, _nearest(times(P, c), G @ P, c.new_zeros(len(c), G.shape[1])))
    size = torch.linalg.vector_norm(d, dim=-1)
    d = d / or_one(size).unsqueeze(-1)
    allowed = largest(times(G, d).clamp_min(0.0)) <= PROOF
    return d, (size > PROOF) & allowed & ((c * d).sum(dim=-1) <= -PROOF)


def feasible(G: Constraints, h: Inequalities) -> Mask:
    """Where the projection of 0 on {Gw <= h} was found."""
    w = _nearest(h.new_zeros(len(h), G.shape[2]), G, h)
    rows = row_norms(G)
    excess = (times(G, w) - h) / rows
    length = torch.maximum(largest(w), largest(h / rows))
    return largest(excess.clamp_min(0.0)) <= 1e-9 * length


def _nearest(c: Points, G: Constraints, h: Inequalities) -> Points:
    """The point of {Gu <= h} that is nearest to −c: it minimises ½‖u + c‖²."""
    program = InequalityProgram(Curvature.identity(c, c.shape[-1]), c, G, h)
    return solve_inequalities(program, _TOLERANCE, _MAX_STEPS).w
