"""Minimisers of a quadratic model gᵀδ + ½ δᵀAδ, free or on a sphere, per example."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.linalg import vector_norm

from savi.linear.base import dot
from savi.linear.dense import by_cholesky, finite_blocks, identity_unless

#: Newton's method needs about ten steps; a block that needs more than this has failed.
MAX_STEPS = 60


def solve_cholesky(
    matrix: Float[Tensor, "B P P"], rhs: Float[Tensor, "B P"]
) -> tuple[Float[Tensor, "B P"], Bool[Tensor, " B"]]:
    """Solve with positive definite blocks; says which blocks were not, and answers 0 for them."""
    factor, info = torch.linalg.cholesky_ex(matrix)
    failed = (info != 0) | ~finite_blocks(factor.detach())
    if failed.any():
        # A failed factor holds garbage, which would reach the gradient even under a zero cotangent.
        factor = torch.linalg.cholesky(identity_unless(~failed, matrix))
        rhs = torch.where(failed.unsqueeze(-1), torch.zeros_like(rhs), rhs)
    return by_cholesky(factor, rhs), failed


def minimise_on_sphere(
    matrix: Float[Tensor, "B P P"],
    gradient: Float[Tensor, "B P"],
    offset: Float[Tensor, "B P"],
    radius: Float[Tensor, " B"],
) -> tuple[Float[Tensor, "B P"], Bool[Tensor, " B"]]:
    """argmin_δ gᵀδ + ½ δᵀAδ subject to ‖n + δ‖ = r, where ‖n − A⁻¹g‖ > r.

    The solution is δ(ν) = −(A + νI)⁻¹(g + νn) with the ν > 0 that solves the secular equation
    ‖p(ν)‖ = r for p = n + δ. Newton's method on 1/r − 1/‖p(ν)‖, which is convex and decreasing,
    climbs to ν from 0 without ever overshooting (Moré and Sorensen 1983). Its last two steps keep
    their graph: each doubles the order to which ν(A, g, n, r) is right, so that δ is
    differentiable three times.

    Args:
        matrix: A, positive definite.
        gradient: g.
        offset: n.
        radius: r.

    Returns:
        δ, and for which examples no finite ν was found, where δ is 0.
    """
    with torch.no_grad():
        multiplier = _secular_root(matrix, gradient, offset, radius)
        failed = ~torch.isfinite(multiplier)
    if failed.any():
        found = ~failed
        delta = _on_sphere(*(t[found] for t in (matrix, gradient, offset, radius, multiplier)))
        return torch.zeros_like(gradient).index_put((found,), delta), failed
    return _on_sphere(matrix, gradient, offset, radius, multiplier), failed


def _on_sphere(
    matrix: Tensor, gradient: Tensor, offset: Tensor, radius: Tensor, multiplier: Tensor
) -> Float[Tensor, "B P"]:
    """δ(ν) after two differentiable corrections of ν."""
    for _ in range(2):
        multiplier = multiplier + _newton_step(matrix, gradient, offset, radius, multiplier)
    delta = _shifted_solve(matrix, gradient, offset, multiplier)[0]
    # What rounding leaves of the constraint, without cancellation in δ.
    p = offset + delta
    size = vector_norm(p, dim=-1)
    return delta + p * ((radius - size) / size).unsqueeze(-1)


def _secular_root(
    matrix: Tensor, gradient: Tensor, offset: Tensor, radius: Tensor
) -> Float[Tensor, " B"]:
    """ν to about half the digits; NaN where it was not found."""
    multiplier = torch.zeros_like(radius)
    searching = torch.ones_like(radius, dtype=torch.bool)
    digits = torch.finfo(radius.dtype).eps ** 0.5
    for _ in range(MAX_STEPS):
        step = _newton_step(matrix, gradient, offset, radius, multiplier).clamp_min(0.0)
        multiplier = torch.where(searching, multiplier + step, multiplier)
        searching = searching & (step > digits * multiplier)
        if not searching.any():
            break
    return torch.where(searching, torch.nan, multiplier)


def _newton_step(
    matrix: Tensor, gradient: Tensor, offset: Tensor, radius: Tensor, multiplier: Tensor
) -> Float[Tensor, " B"]:
    """(‖p‖ − r) / (r p̂ᵀ(A + νI)⁻¹p̂)."""
    delta, factor = _shifted_solve(matrix, gradient, offset, multiplier)
    p = offset + delta
    size = vector_norm(p, dim=-1)
    unit = p / size.unsqueeze(-1)
    slope = dot(unit, torch.cholesky_solve(unit.unsqueeze(-1), factor).squeeze(-1))
    return (size - radius) / (radius * slope)


def _shifted_solve(
    matrix: Tensor, gradient: Tensor, offset: Tensor, multiplier: Tensor
) -> tuple[Float[Tensor, "B P"], Float[Tensor, "B P P"]]:
    """δ(ν), and the Cholesky factor of A + νI."""
    shift = torch.diag_embed(multiplier.unsqueeze(-1).expand_as(gradient))
    factor, _ = torch.linalg.cholesky_ex(matrix + shift)
    rhs = gradient + multiplier.unsqueeze(-1) * offset
    return -torch.cholesky_solve(rhs.unsqueeze(-1), factor).squeeze(-1), factor
