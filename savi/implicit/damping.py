"""The solution of a regularised system, for examples that have no strict minimum."""

from __future__ import annotations

import torch

from savi.linear.dense import finite_blocks, multiply
from savi.types import Blocks, Mask, Rows

#: δ of :func:`damped`, as a fraction of the largest eigenvalue.
DAMPING = 1e-2


def damped(hessian: Blocks, v: Rows, failed: Mask) -> Rows:
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
