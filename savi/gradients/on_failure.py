"""What an implicit backward does with examples that break a condition of the theorem."""

from __future__ import annotations

from enum import Enum

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from savi.linear.dense import finite_blocks, multiply

#: The damping δ of :func:`damped`, as a fraction of the largest eigenvalue.
DAMPING = 1e-2


class OnFailure(Enum):
    """The policies: what becomes of the correction −H⁻¹v of a failed example.

    ``warn`` uses it and warns; ``raise`` raises; ``mask`` drops it, which leaves the direct
    gradient; ``damp`` replaces it by that of a regularised problem (:func:`damped`); ``fallback``
    differentiates the steps that were taken instead (``unrolled``, recomputed).
    """

    WARN = "warn"
    RAISE = "raise"
    MASK = "mask"
    DAMP = "damp"
    FALLBACK = "fallback"


#: The policies that need no warning about failed examples, because something is done about them.
HANDLED = frozenset({OnFailure.MASK, OnFailure.DAMP, OnFailure.FALLBACK})


def damped(
    hessian: Float[Tensor, "B P P"], v: Float[Tensor, "B P"], failed: Bool[Tensor, " B"]
) -> Float[Tensor, "B P"]:
    """(H + τI)⁻¹v for the failed examples, τ = max(0, −λ_min) + δ max|λ|; 0 for the others.

    The implicit gradient of the problem with ½τ‖λ − λK‖² added, which has a strict minimum where H
    has negative or no curvature. It is biased towards 0. A block that is not finite, or is 0, is
    answered with 0.
    """
    u = torch.zeros_like(v)
    usable = failed & finite_blocks(hessian) & torch.isfinite(v).all(dim=-1)
    if not usable.any():
        return u
    eigenvalues, q = torch.linalg.eigh(hessian[usable])
    largest = eigenvalues.abs().amax(dim=-1, keepdim=True)
    shift = (-eigenvalues[:, :1]).clamp_min(0.0) + DAMPING * largest
    rotated = multiply(q.mT, v[usable])
    scaled = torch.where(largest > 0, rotated / (eigenvalues + shift), torch.zeros_like(rotated))
    u[usable] = multiply(q, scaled)
    return u
