"""Is the objective convex, and strictly?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from savi.implicit.qp.batched import largest, or_one
from savi.linear.dense import safe_cholesky

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
