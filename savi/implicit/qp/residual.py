"""How well a point and its multipliers satisfy the KKT conditions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from savi.implicit.qp.problem import QPData
from savi.implicit.qp.scaled import largest, or_one, times

#: No entry is judged by less than this part of the largest: what rounding errors need.
LEAST = 1e-6


@dataclass(frozen=True)
class Residual:
    """The KKT conditions, each row and each coordinate relative to the terms that cancel in it.

    Attributes:
        error: the largest violation of stationarity, Ax = b, Gx <= h, z >= 0 and z∘(h − Gx) = 0.
        gap: the duality gap zᵀ(h − Gx), in the units of the objective.
        slack: h − Gx, relative to the terms of its row.
        weight: z, relative to the multiplier that the forces on its row can have.
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
    rows = _Rows(A.square(), G.square(), z != 0)
    own = times(Q.abs(), x.abs()) + q.abs()
    force = rows.spread(own + times(A.abs().mT, y.abs()) + times(G.abs().mT, z.abs()))
    length = rows.spread(torch.maximum(x.abs(), _free_length(Q, own)))
    surplus = h - times(G, x)
    slack = surplus / or_one(_norm(rows.G, length) + h.abs())
    weight = z * rows.G.sum(dim=-1) / or_one(_norm(rows.G, force))
    violations = [
        (times(Q, x) + q + times(A.mT, y) + times(G.mT, z)) / or_one(force),
        (times(A, x) - b) / or_one(_norm(rows.A, length) + b.abs()),
        (-slack).clamp_min(0.0),
        (-weight).clamp_min(0.0),
        slack * weight,
    ]
    error = torch.stack([largest(violation) for violation in violations]).amax(dim=0)
    return Residual(error, (z * surplus).sum(dim=-1), slack, weight)


def _free_length(Q: Float[Tensor, "S n n"], own: Float[Tensor, "B n"]) -> Float[Tensor, "B n"]:
    """The way to the minimum of each coordinate by itself: what 0 is small beside.

    Multipliers do not count, because those of an infeasible program grow without end.
    """
    bend = Q.diagonal(dim1=-2, dim2=-1)
    most = largest(own) / or_one(largest(Q.flatten(1)))
    free = torch.where(bend > 0, own / or_one(bend), 0.0)
    return torch.minimum(free, most.unsqueeze(-1))


@dataclass(frozen=True)
class _Rows:
    """The squared entries of A and G, and which rows of G act on x."""

    A: Float[Tensor, "S m n"]
    G: Float[Tensor, "S p n"]
    acting: Bool[Tensor, "B p"]

    def spread(self, size: Float[Tensor, "B n"]) -> Float[Tensor, "B n"]:
        """The sizes of coordinates, and those of the others that the rows lend to them.

        |M|ᵀ|M| v / ‖M‖² is how a row M passes on what it gets, by least squares.
        """
        most = largest(size).unsqueeze(-1)
        square = (size / or_one(most)).square()
        lent = torch.zeros_like(square)
        for M, acting in ((self.A, 1.0), (self.G, self.acting)):
            if M.shape[1]:
                part = times(M, square) / or_one(M.sum(dim=-1).square())
                lent = lent + times(M.mT, acting * part)
        return most * (square + lent).sqrt().clamp(LEAST, 1.0)


def _norm(squares: Float[Tensor, "S p n"], v: Float[Tensor, "B n"]) -> Float[Tensor, "B p"]:
    """The size of a row's terms that v leaves, as errors add up."""
    return times(squares, v.square()).sqrt()
