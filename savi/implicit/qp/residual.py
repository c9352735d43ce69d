"""How well a point solves a quadratic program: the KKT conditions, relative to what cancels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from savi.implicit.qp.matrices import Batched, largest, or_one, row_norms, times
from savi.implicit.qp.program import QPData
from savi.types import Equalities, Inequalities, Mask, PerExample, Points

#: No entry is judged by less than this part of the largest: what rounding errors need.
LEAST = 1e-6

#: A constraint whose slack and multiplier are both below this relative size is at a kink.
KINK = 1e-8
#: Constraints that hold up to this part of their terms hold but for rounding errors.
EXACT = 1e-14
#: What is below this part of the terms that cancel is a rounding error.
NOTHING = 1e-12
#: Forces below this part of the slope are small beside it.
FAINT = 1e-4


@dataclass(frozen=True)
class KKTResidual(Batched):
    """The KKT conditions, each row and each coordinate relative to the terms that cancel in it.

    Attributes:
        error: the largest violation of stationarity, Ax = b, Gx <= h, z >= 0 and z∘(h − Gx) = 0.
        gap: the duality gap zᵀ(h − Gx), in the units of the objective.
        leverage: what a relative change of a constraint does to the objective, relative to it.
        faint: where the forces of the curvature are small beside the slope of the objective: at a
            vertex, where x does not follow the slope, they would make rounding errors large.
        slack: h − Gx, relative to the terms of its row.
        weight: z, relative to the multiplier that the forces on its row can have.
    """

    error: PerExample
    gap: PerExample
    leverage: PerExample
    faint: Mask
    slack: Inequalities
    weight: Inequalities

    def kink(self, tolerance: float) -> Mask:
        """Where a constraint may have neither a slack nor a multiplier."""
        return (torch.maximum(self.slack, self.weight) <= tolerance).any(dim=-1)


def kkt_residual(data: QPData, x: Points, y: Equalities, z: Inequalities) -> KKTResidual:
    """The residual of Qx + q + Aᵀy + Gᵀz = 0, Ax = b, Gx <= h, z >= 0, z∘(h − Gx) = 0."""
    Q, q, A, b, G, h = data
    squares = (A.square(), G.square())
    pull = times(Q.abs(), x.abs())
    own = pull + q.abs()
    total = own + times(A.abs().mT, y.abs()) + times(G.abs().mT, z.abs())
    force = _lent(total, squares, z != 0)
    length = _lent(torch.maximum(x.abs(), _free_length(Q, own)), squares, z != 0)
    surplus = h - times(G, x)
    sides = _row_sizes(squares[0], length) + b.abs(), _row_sizes(squares[1], length) + h.abs()
    slack = surplus / or_one(sides[1])
    weight = z * squares[1].sum(dim=-1) / or_one(_row_sizes(squares[1], force))
    violations = [
        (times(Q, x) + q + times(A.mT, y) + times(G.mT, z)) / or_one(force),
        (times(A, x) - b) / or_one(sides[0]),
        (-slack).clamp_min(0.0),
        (-weight).clamp_min(0.0),
        slack * weight,
    ]
    error = torch.stack([largest(violation) for violation in violations]).amax(dim=0)
    moved = (y.abs() * sides[0]).sum(dim=-1) + (z.abs() * sides[1]).sum(dim=-1)
    leverage = moved / or_one((own * length).sum(dim=-1))
    faint = (pull < FAINT * own).any(dim=-1)
    return KKTResidual(error, (z * surplus).sum(dim=-1), leverage, faint, slack, weight)


def kinks(data: QPData, x: Points, y: Equalities, z: Inequalities, residual: KKTResidual) -> Mask:
    """Where a constraint has neither a slack nor a multiplier.

    What is small beside terms that cancel is looked at more closely: it is nothing only if it is a
    rounding error, or small also beside what is left of these terms, which are the forces at x and
    the ways that the constraints leave, and beside the multipliers and slacks of the others.
    """
    result = residual.kink(KINK)
    (index,) = result.nonzero(as_tuple=True)
    if not len(index):
        return result
    Q, q, A, _, G, h = data.take(index)
    x, y, z, residual = x[index], y[index], z[index], residual.take(index)
    squares, rows = (A.square(), G.square()), row_norms(G)
    own = times(Q, x).abs() + q.abs()
    force = _lent(own + times(A.mT, y).abs() + times(G.abs().mT, z.abs()), squares, z != 0)
    pull, push = _row_sizes(squares[1], force) / rows, rows * z
    light = (residual.weight <= NOTHING) | ((push <= KINK * pull) & _few(push))
    ways = (h / rows).abs()
    length = _lent(_near_length(data.take(index), x), squares, z != 0)
    slack = (h - times(G, x)) / rows
    reach = _row_sizes(squares[1], length) / rows + ways
    closed = (slack <= NOTHING * reach) | ((slack <= KINK * reach) & _few(slack))
    result[index] = (light & closed).any(dim=-1)
    return result


def feasible(data: QPData, x: Points, z: Inequalities) -> Mask:
    """Where Ax = b and Gx <= h hold up to rounding errors: no long way hides what is left."""
    _, _, A, b, G, h = data
    squares = (A.square(), G.square())
    length = _lent(_near_length(data, x), squares, z != 0)
    left = [(times(A, x) - b).abs(), times(G, x) - h]
    sizes = [_row_sizes(S, length) + side.abs() for S, side in zip(squares, (b, h), strict=True)]
    pairs = zip(left, sizes, strict=True)
    return torch.stack([(v <= EXACT * size).all(dim=-1) for v, size in pairs]).all(dim=0)


def _near_length(data: QPData, x: Points) -> Points:
    """|x|, and for coordinates of 0 the way to the minimum or to the nearest constraint."""
    Q, q, _, _, G, h = data
    ways = h.abs().unsqueeze(-1) / or_one(G.abs())
    ways = torch.where((G != 0) & (ways > 0), ways, torch.inf)
    near = ways.amin(dim=-2) if G.shape[1] else torch.full_like(x, torch.inf)
    return torch.maximum(x.abs(), _free_length(Q, times(Q.abs(), x.abs()) + q.abs()).minimum(near))


def _few(v: Inequalities) -> Tensor:
    """Which are small beside the largest."""
    return v <= KINK * largest(v).unsqueeze(-1)


def _free_length(Q: Tensor, own: Tensor) -> Points:
    """The way to the minimum of each coordinate by itself: what 0 is small beside.

    Multipliers do not count, because those of an infeasible program grow without end.
    """
    curvature = Q.diagonal(dim1=-2, dim2=-1)
    most = largest(own) / or_one(largest(Q.flatten(1)))
    free = torch.where(curvature > 0, own / or_one(curvature), 0.0)
    return torch.minimum(free, most.unsqueeze(-1))


def _lent(size: Tensor, squares: tuple[Tensor, Tensor], acting: Tensor) -> Points:
    """The sizes of coordinates, and those of the others that the rows lend to them.

    |M|ᵀ|M| v / ‖M‖² is how a row M passes on what it gets, by least squares. ``squares`` holds
    the squared entries of A and of G, of which some rows are ``acting`` on x.
    """
    most = largest(size).unsqueeze(-1)
    square = (size / or_one(most)).square()
    lent = torch.zeros_like(square)
    passes: list[float | Tensor] = [1.0, acting]
    for M, passed in zip(squares, passes, strict=True):
        if M.shape[1]:
            part = times(M, square) / or_one(M.sum(dim=-1).square())
            lent = lent + times(M.mT, passed * part)
    return most * (square + lent).sqrt().clamp(LEAST, 1.0)


def _row_sizes(squares: Tensor, v: Tensor) -> Inequalities:
    """The size of a row's terms that v leaves, as errors add up."""
    return times(squares, v.square()).sqrt()
