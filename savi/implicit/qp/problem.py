"""The parameters of a batch of quadratic programs, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from savi.errors import InputError
from savi.implicit.qp.scaled import largest, or_one
from savi.linear.dense import safe_cholesky

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
    def finite(self) -> Bool[Tensor, " B"]:
        """Which examples hold finite numbers only."""
        # 0·x is 0 for a finite x and NaN otherwise: far cheaper than to ask every number.
        sums = [(0.0 * parameter).flatten(1).sum(dim=-1) for parameter in self]
        return torch.stack([s.expand(self.batch) for s in sums]).sum(dim=0) == 0

    def without_absent_bounds(self) -> QPData:
        """With 0ᵀx <= 1 for Gx <= ∞, which holds nothing back, in the units of the other bounds."""
        absent = self.h == torch.inf
        if not absent.any():
            return self
        others = torch.where(absent, 0.0, self.h.detach().abs()).amax(dim=-1, keepdim=True)
        inactive = torch.where(others > 0, others, torch.ones_like(others))
        G = torch.where(absent.unsqueeze(-1), torch.zeros_like(self.G), self.G)
        return self._replace(G=G, h=torch.where(absent, inactive, self.h))


def checked(
    Q: Tensor,
    q: Tensor,
    A: Tensor | None,
    b: Tensor | None,
    G: Tensor | None,
    h: Tensor | None,
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


#: A squared pivot of the Cholesky factor below this part of the largest entry needs a closer look.
DOUBTFUL = 1e-9


@dataclass(frozen=True)
class Curvature:
    """The matrices H of ½wᵀHw, one per example or one for all.

    Attributes:
        matrix: H, with the eigenvalues that cannot be told from 0 set to 0.
        factor: L of H = LLᵀ where ``definite``.
        definite: which are positive definite, and not close to singular.
        negative: which have a negative eigenvalue.
    """

    matrix: Float[Tensor, "S k k"]
    factor: Float[Tensor, "S k k"]
    definite: Bool[Tensor, " S"]
    negative: Bool[Tensor, " S"]


def curvature(H: Float[Tensor, "S k k"], eps: float, rotated: bool) -> Curvature:
    """Judge symmetric matrices whose entries are rounded to a relative ``eps``.

    It is D^-½ H D^-½ that is judged, with D = |diag H|, so that the units of the variables do not
    matter. Where H is ``rotated``, what is below the rounding errors of its largest entry is 0.
    """
    root = _scales(H, eps, rotated).sqrt()
    factor, definite = safe_cholesky(H)
    pivots = factor / root.unsqueeze(-1)
    definite = definite & well_pivoted(pivots, torch.ones_like(definite, dtype=H.dtype), DOUBTFUL)
    negative = torch.zeros_like(definite)
    doubtful = ~definite
    if H.shape[-1] and doubtful.any():
        root = root[doubtful]
        scales = root.unsqueeze(-1) * root.unsqueeze(-2)
        values, vectors = torch.linalg.eigh(H[doubtful] / scales)
        noise = 4.0 * H.shape[-1] * eps * largest(values).unsqueeze(-1)
        negative[doubtful] = (values < -noise).any(dim=-1)
        cleaned = torch.where(values.abs() <= noise, 0.0, values)
        H = H.clone()
        H[doubtful] = (vectors * cleaned.unsqueeze(-2)) @ vectors.mT * scales
    return Curvature(H, factor, definite, negative)


def _scales(H: Float[Tensor, "S k k"], eps: float, rotated: bool) -> Float[Tensor, "S k"]:
    """D; the largest entry in place of a 0, and of what is negative by rounding."""
    size = or_one(largest(H.flatten(1))).unsqueeze(-1)
    diagonal = H.diagonal(dim1=-2, dim2=-1)
    if rotated:
        return diagonal.abs().maximum(4.0 * H.shape[-1] * eps * size)
    return torch.where((diagonal > 0) | (diagonal < -0.5 * eps * size), diagonal.abs(), size)


def well_pivoted(
    factor: Float[Tensor, "S k k"], size: Float[Tensor, " S"], least: float
) -> Bool[Tensor, " S"]:
    """Whether all squared pivots of a Cholesky factor exceed a part of ``size``."""
    pivots = factor.diagonal(dim1=-2, dim2=-1)
    return (pivots.square() > least * size.unsqueeze(-1)).all(dim=-1)
