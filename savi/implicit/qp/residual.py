"""How well a point and its multipliers satisfy the KKT conditions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from savi.implicit.qp.batched import largest, or_one, times
from savi.implicit.qp.problem import QPData


@dataclass(frozen=True)
class Residual:
    """The KKT conditions, relative to the largest of the terms that cancel in each.

    Attributes:
        error: the largest violation of stationarity, Ax = b, Gx <= h, z >= 0 and z∘(h − Gx) = 0.
        gap: the duality gap zᵀ(h − Gx), in the units of the objective.
        slack: h − Gx, per unit of the row's norm and relative to the size of x, b and h.
        weight: z in the same units, relative to the terms of the stationarity condition.
    """

    error: Float[Tensor, " B"]
    gap: Float[Tensor, " B"]
    slack: Float[Tensor, "B p"]
    weight: Float[Tensor, "B p"]

    def kink(self, tolerance: float) -> Bool[Tensor, " B"]:
        """Where a constraint has neither a slack nor a multiplier."""
        return (torch.maximum(self.slack, self.weight) <= tolerance).any(dim=-1)


def kkt_residual(
    data: QPData, x: Float[Tensor, "B n"], y: Float[Tensor, "B m"], z: Float[Tensor, "B p"]
) -> Residual:
    """The residual of Qx + q + Aᵀy + Gᵀz = 0, Ax = b, Gx <= h, z >= 0, z∘(h − Gx) = 0."""
    Q, q, A, b, G, h = data
    terms = [times(Q, x), q.expand_as(x), times(A.mT, y), times(G.mT, z)]
    force = or_one(torch.stack([largest(term) for term in terms]).amax(dim=0)).unsqueeze(-1)
    a_rows, g_rows = (or_one(torch.linalg.vector_norm(M, dim=-1)) for M in (A, G))
    sizes = [largest(x), largest(b / a_rows), largest(h / g_rows)]
    length = or_one(torch.stack([size.expand(len(x)) for size in sizes]).amax(dim=0)).unsqueeze(-1)
    surplus = h - times(G, x)
    slack, weight = surplus / g_rows / length, z * g_rows / force
    violations = [
        sum(terms) / force,
        (times(A, x) - b) / a_rows / length,
        (-slack).clamp_min(0.0),
        (-weight).clamp_min(0.0),
        slack * weight,
    ]
    error = torch.stack([largest(violation) for violation in violations]).amax(dim=0)
    return Residual(error, (z * surplus).sum(dim=-1), slack, weight)
