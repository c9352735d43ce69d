"""Proofs that a quadratic program has no solution: Farkas' ray, and a ray of descent.

Each is the projection of a vector on a cone, a strictly convex program that always has a solution,
which is 0 if and only if there is no such ray.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from savi.implicit.qp.problem import Curvature
from savi.implicit.qp.reduced import solve_reduced
from savi.implicit.qp.scaled import largest, or_one, times

#: A ray proves its case up to this relative error.
PROOF = 1e-6
_TOLERANCE = 1e-11
_MAX_STEPS = 100
_RANK = 1e-11


def farkas_ray(
    G: Float[Tensor, "S p k"], h: Float[Tensor, "B p"]
) -> tuple[Float[Tensor, "B p"], Bool[Tensor, " B"]]:
    """Farkas' ray z >= 0 with Gᵀz = 0 and hᵀz < 0, and where it proves that no w has Gw <= h.

    z is the projection of −h on {z >= 0, Gᵀz = 0}: with P the projector on the null space of Gᵀ,
    z = Pu for the u that minimises ½‖u + h‖² subject to −Pu <= 0. The proof is accepted where
    ‖Gᵀz‖ <= 1e-6 |hᵀz| / max|h| for rows of norm 1: no w of a norm below 1e6 max|h| is feasible.
    """
    if not G.shape[1]:
        return h, torch.zeros(len(h), dtype=torch.bool, device=h.device)
    rows = or_one(torch.linalg.vector_norm(G, dim=-1))
    G, h = G / rows.unsqueeze(-1), h / rows
    length = or_one(largest(h)).unsqueeze(-1)
    h = h / length
    U, sigma, _ = torch.linalg.svd(G, full_matrices=False)
    kept = U * (sigma > _RANK * or_one(largest(sigma)).unsqueeze(-1)).unsqueeze(-2)
    P = _identity(G, G.shape[1]) - kept @ kept.mT
    u = solve_reduced(_unit_curvature(P), h, -P, torch.zeros_like(h), _TOLERANCE, _MAX_STEPS).w
    z = times(P, u)
    # Once more at its own size, for what cancellation left outside the null space.
    z = times(P, z / or_one(largest(z)).unsqueeze(-1)).clamp_min(0.0)
    # Rays that hold by rounding alone prove nothing.
    z = torch.where(z > _TOLERANCE, z, 0.0)
    value = (h * z).sum(dim=-1)
    noise = 1e-13 * (h * z).abs().sum(dim=-1)
    miss = torch.linalg.vector_norm(times(G.mT, z), dim=-1)
    return z / rows, (value < -noise) & (miss <= -PROOF * value)


def descent_ray(
    H: Float[Tensor, "S k k"], c: Float[Tensor, "B k"], G: Float[Tensor, "S p k"]
) -> tuple[Float[Tensor, "B k"], Bool[Tensor, " B"]]:
    """A ray d with Hd = 0, Gd <= 0 and cᵀd < 0, along which a feasible program falls for ever.

    d is the projection of −c on {Hd = 0, Gd <= 0}: with P the projector on the null space of H,
    d = Pu for the u that minimises ½‖u + c‖² subject to GPu <= 0. The proof is accepted where
    ‖d‖ = 1 has Gd <= 1e-6 for rows of norm 1, and cᵀd <= −1e-6 ‖c‖.
    """
    values, vectors = torch.linalg.eigh(H)
    flat = values.abs() <= _RANK * or_one(largest(values)).unsqueeze(-1)
    null = vectors * flat.unsqueeze(-2)
    P = null @ null.mT
    c = c / or_one(torch.linalg.vector_norm(c, dim=-1, keepdim=True))
    G = G / or_one(torch.linalg.vector_norm(G, dim=-1, keepdim=True))
    u = solve_reduced(
        _unit_curvature(P),
        times(P, c),
        G @ P,
        c.new_zeros(len(c), G.shape[1]),
        _TOLERANCE,
        _MAX_STEPS,
    ).w
    d = times(P, u)
    size = torch.linalg.vector_norm(d, dim=-1)
    d = d / or_one(size).unsqueeze(-1)
    allowed = largest(times(G, d).clamp_min(0.0)) <= PROOF
    return d, (size > PROOF) & allowed & ((c * d).sum(dim=-1) <= -PROOF)


def feasible(G: Float[Tensor, "S p k"], h: Float[Tensor, "B p"]) -> Bool[Tensor, " B"]:
    """Where the projection of 0 on {Gw <= h} was found."""
    zero = h.new_zeros(len(h), G.shape[2])
    solution = solve_reduced(_unit_curvature_of(G), zero, G, h, _TOLERANCE, _MAX_STEPS)
    rows = or_one(torch.linalg.vector_norm(G, dim=-1))
    excess = (times(G, solution.w) - h) / rows
    length = torch.maximum(largest(solution.w), largest(h / rows))
    return largest(excess.clamp_min(0.0)) <= 1e-9 * length


def _unit_curvature(P: Float[Tensor, "S k k"]) -> Curvature:
    identity = _identity(P, P.shape[-1])
    true = torch.ones(1, dtype=torch.bool, device=P.device)
    return Curvature(identity, identity, true, ~true)


def _unit_curvature_of(G: Float[Tensor, "S p k"]) -> Curvature:
    return _unit_curvature(G.new_zeros(1, G.shape[2], G.shape[2]))


def _identity(like: Tensor, size: int) -> Float[Tensor, "1 k k"]:
    return torch.eye(size, dtype=like.dtype, device=like.device).unsqueeze(0)
