"""A batch of quadratic programs: its parameters, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from savi.errors import InputError
from savi.implicit.qp.matrices import Batched, Curvature, or_one, take
from savi.linear.dense import finite_blocks
from savi.types import Constraints, Index, Inequalities, Mask, Points

#: The shape of each parameter for one example.
SHAPES = {"Q": "[n, n]", "q": "[n]", "A": "[m, n]", "b": "[m]", "G": "[p, n]", "h": "[p]"}


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
