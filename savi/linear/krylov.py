"""An orthonormal basis of a Krylov space per example, orthogonalised in full."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from savi.linear.base import norm, rounding
from savi.linear.dense import multiply


def divide(
    v: Float[Tensor, "B P"], size: Float[Tensor, " B"], where: Bool[Tensor, " B"]
) -> Float[Tensor, "B P"]:
    """Take v / size where asked for, and 0 elsewhere."""
    safe = torch.where(where, size, 1.0).unsqueeze(-1)
    return torch.where(where.unsqueeze(-1), v / safe, 0.0)


def orthogonalise(
    basis: Float[Tensor, "B M P"], w: Float[Tensor, "B P"], scale: Float[Tensor, " B"]
) -> tuple[Float[Tensor, "B P"], Float[Tensor, "B M"], Float[Tensor, " B"], Bool[Tensor, " B"]]:
    """Split w into a part in the basis and a rest: (rest, coefficients, ‖rest‖, worth keeping).

    Two passes of Gram–Schmidt leave orthogonality at rounding level, which the short recurrences
    of Lanczos lose in float32; P is small, so a full basis costs little. A rest that rounding
    of products of this scale can explain (the Krylov space is exhausted) is given the norm 0, and
    is not worth keeping.
    """
    coefficients = torch.zeros_like(basis[..., 0])
    for _ in range(2):
        part = multiply(basis, w)
        w = w - multiply(basis.mT, part)
        coefficients = coefficients + part
    rest = norm(w)
    kept = rest > rounding(w.shape[-1], scale)
    return w, coefficients, torch.where(kept, rest, 0.0), kept
