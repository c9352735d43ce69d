"""A batch of quadratic programs: its parameters, checked, and how well a point solves it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from savi.errors import InputError
from savi.implicit.qp.matrices import Batched, Curvature, largest, or_one, row_norms, take, times
from savi.linear.dense import finite_blocks
from savi.types import Constraints, Equalities, Index, Inequalities, Mask, PerExample, Points

#: The shape of each parameter for one example.
SHAPES = {"Q": "[n, n]", "q": "[n]", "A": "[m, n]", "b": "[m]", "G": "[p, n]", "h": "[p]"}

#: No entry is judged by less than this part of the largest: what rounding errors need.
LEAST = 1e-6

#: A constraint whose slack and multiplier are both below this relative size is at a kink.
KINK = 1e-8
#: Constraints that hold up to this part of their terms hold but for rounding errors.
EXACT = 1e-14
#: What is below this part of the terms that cancel is a rounding error.
NOTHING = 1e-12


class QPData(NamedTuple):
    """Q, q, A, b, G, h with a batch dimension each, of size 1 for what all examples share."""

    Q: Float[Tensor, "#B n n"]
    q: Float[Tensor, "#B n"]
    A: Float[Tensor, "#B m n"]
    b: Float[Tensor, "#B m"]
    G: Float[Tensor, "#B p n"]
    h: Float[Tensor, "#B p"]

    @property
    def batch(self) -> int:
        """B."""
        return max(parameter.shape[0] for parameter in self)

    @property
    def finite(self) -> Mask:
        """Which examples hold finite numbers only."""
        return torch.stack([finite_blocks(p).expand(self.batch) for p in self]).all(dim=0)

    def take(self, index: Index) -> QPData:
        """The programs of these examples."""
        return QPData(*(take(parameter, index) for parameter in self))

    def without_absent_bounds(self) -> QPData:
        """With 0ᵀx <= 1 for Gx <= ∞, which holds nothing back, in the units of the other bounds."""
        absent = self.h == torch.inf
        if not absent.any():
            return self
        others = torch.where(absent, 0.0, self.h.detach().abs()).amax(dim=-1, keepdim=True)
        G = torch.where(absent.unsqueeze(-1), 0.0, self.G)
        return self._replace(G=G, h=torch.where(absent, or_one(others), self.h))


@dataclass(frozen=True)
class InequalityProgram(Batched):
    """minimise ½wᵀHw + cᵀw subject to Gw <= h."""

    H: Curvature
    c: Points
    G: Constraints
    h: Inequalities

    @property
    def data(self) -> QPData:
        """The program as one with no rows of A."""
        H = self.H.matrix
        A, b = H.new_zeros(1, 0, H.shape[-1]), H.new_zeros(1, 0)
        return QPData(H, self.c, A, b, self.G, self.h)


def checked(
    Q: Tensor, q: Tensor, A: Tensor | None, b: Tensor | None, G: Tensor | None, h: Tensor | None
) -> QPData:
    """The parameters with a batch dimension, and empty constraints for absent ones.

    Raises:
        InputError: for a parameter without its other half, of another type, or of a shape that
            does not fit the others.
    """
    for (matrix, M), (side, v) in ((("A", A), ("b", b)), (("G", G), ("h", h))):
        if (M is None) != (v is None):
            given, missing = (matrix, side) if v is None else (side, matrix)
            raise InputError(f"QPLayer: {given} is given without {missing}: give both or neither")
    parameters = {"Q": Q, "q": q, "A": A, "b": b, "G": G, "h": h}
    present = {name: value for name, value in parameters.items() if value is not None}
    _check_types(present)
    present = {
        name: value.unsqueeze(0) if value.dim() == SHAPES[name].count(",") + 1 else value
        for name, value in present.items()
    }
    _check_shapes(present)
    n = Q.shape[-1]
    for matrix, side in (("A", "b"), ("G", "h")):
        present.setdefault(matrix, Q.new_zeros(1, 0, n))
        present.setdefault(side, Q.new_zeros(1, 0))
    return QPData(**present)


def _check_types(parameters: dict[str, Tensor]) -> None:
    for name, value in parameters.items():
        if not isinstance(value, Tensor):
            raise InputError(f"QPLayer: {name} is a {type(value).__name__}: give a tensor")
        if value.dtype not in (torch.float32, torch.float64):
            kind = str(value.dtype).removeprefix("torch.")
            raise InputError(f"QPLayer: {name} is {kind}: give float32 or float64")
    for what in ("dtype", "device"):
        kinds = {name: getattr(value, what) for name, value in parameters.items()}
        if len(set(kinds.values())) > 1:
            told = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
            raise InputError(f"QPLayer: the parameters differ in {what} ({told}): give one {what}")


def _check_shapes(parameters: dict[str, Tensor]) -> None:
    sizes: dict[str, tuple[int, str]] = {}
    for name, value in parameters.items():
        letters = ["B", *SHAPES[name].strip("[]").split(", ")]
        shape = tuple(value.shape)
        if len(shape) != len(letters):
            raise InputError(
                f"QPLayer: {name} has {len(shape)} dimensions: give {SHAPES[name]}, or "
                f"[B, {SHAPES[name][1:]} for a batch"
            )
        for letter, size in zip(letters, shape, strict=True):
            if letter == "B" and size == 1:
                continue
            known, first = sizes.setdefault(letter, (size, name))
            if size != known:
                raise InputError(
                    f"QPLayer: {name} has the shape {list(shape)}, with {letter} = {size}, but "
                    f"{first} says {letter} = {known}: give {name} as [{', '.join(letters)}]"
                )
    if sizes["n"][0] == 0 or sizes.get("B", (1, ""))[0] == 0:
        raise InputError("QPLayer: the batch or the number of variables is 0: give at least one")


@dataclass(frozen=True)
class KKTResidual(Batched):
    """The KKT conditions, each row and each coordinate relative to the terms that cancel in it.

    Attributes:
        error: the largest violation of stationarity, Ax = b, Gx <= h, z >= 0 and z∘(h − Gx) = 0.
        gap: the duality gap zᵀ(h − Gx), in the units of the objective.
        leverage: what a relative change of a constraint does to the objective, relative to it.
        slack: h − Gx, relative to the terms of its row.
        weight: z, relative to the multiplier that the forces on its row can have.
    """

    error: PerExample
    gap: PerExample
    leverage: PerExample
    slack: Inequalities
    weight: Inequalities

    def kink(self, tolerance: float) -> Mask:
        """Where a constraint may have neither a slack nor a multiplier."""
        return (torch.maximum(self.slack, self.weight) <= tolerance).any(dim=-1)


def kkt_residual(data: QPData, x: Points, y: Equalities, z: Inequalities) -> KKTResidual:
    """The residual of Qx + q + Aᵀy + Gᵀz = 0, Ax = b, Gx <= h, z >= 0, z∘(h − Gx) = 0."""
    Q, q, A, b, G, h = data
    squares = (A.square(), G.square())
    own = times(Q.abs(), x.abs()) + q.abs()
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
    return KKTResidual(error, (z * surplus).sum(dim=-1), leverage, slack, weight)


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
    closed = (residual.slack <= NOTHING) | ((slack <= KINK * reach) & _few(slack))
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
