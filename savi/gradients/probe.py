"""How far λK is from the solution, and how much F = ∇J bends on the way there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from savi.inner.objective import InnerObjective
from savi.linear.base import LinearSolution, norm

#: For what two gradients do not show.
SAFETY = 2.0


@dataclass(frozen=True)
class Probe:
    """Two gradients near the solution, compared with the linearisation that the theorem uses.

    Attributes:
        error_bound: an estimate of the relative error of the implicit gradient, see :func:`probe`.
        nonlinearity: ‖F(λK + p) − F(λK) − Hp‖ / ‖Hp‖, the worse of the two p.
    """

    error_bound: Float[Tensor, " B"]
    nonlinearity: Float[Tensor, " B"]


def probe(
    objective: InnerObjective,
    init: Float[Tensor, "B P"],
    point: Float[Tensor, "B P"],
    residual: Float[Tensor, "B P"],
    newton_step: Float[Tensor, "B P"],
    linear: LinearSolution,
    v: Float[Tensor, "B P"],
) -> Probe:
    """Look at F at λK + s ± hû: s = −H⁻¹F leads to the solution, û = u/‖u‖ is where u points.

    The adjoint is u = H⁻¹v. With μ the smallest eigenvalue of H, Λ its Lipschitz constant as the
    two points show it, Λ = 2 ‖F(λK + p) − F(λK) − Hp‖ / ‖p‖², and ϱ = ‖Hu − v‖ the residual of the
    linear solve, the solution's own adjoint u* differs by

        ‖u − u*‖ / ‖u‖ ≤ (ϱ/‖u‖ + Λ‖s‖) / μ     to first order in ‖s‖,

    and ∂F/∂θ, taken to vary on the scale of λ itself, by ‖s‖/max(‖λK‖, ‖λK − λ0‖/10), where the
    second is for solutions near 0; ``error_bound`` is twice the sum. It is an estimate and no
    proof, because Λ is sampled and μ an estimate from above: hence the factor. The products
    Hs = −F and Hû = v/‖u‖ are known, so that the price is two gradients.

    Both signs of û are tried because a kink at λK shows on one side of it only.

    Args:
        objective: the inner objective.
        init: λ0.
        point: λK.
        residual: F(λK).
        newton_step: s.
        linear: u and what is known of its solve.
        v: the right-hand side of that solve.
    """
    u = linear.value
    size = norm(u)
    direction = torch.where(size > 0, u.mT / size, 0.0).mT
    image = torch.where(size > 0, v.mT / size, 0.0).mT
    h = (torch.finfo(point.dtype).eps ** 0.4 * (1.0 + norm(point))).unsqueeze(-1)
    nonlinearity, bending = torch.zeros_like(size), torch.zeros_like(size)
    for sign in (1.0, -1.0):
        moved = objective.project(point + newton_step + sign * h * direction)
        _, gradient = objective.gradient(moved)
        expected = -residual + sign * h * image
        mismatch = norm(objective.residual(moved, gradient) - residual - expected)
        nonlinearity = nonlinearity.maximum(mismatch / norm(expected))
        bending = bending.maximum(2.0 * mismatch / norm(moved - point).square())
    distance = norm(newton_step)
    relative_residual = linear.residual * norm(v) / size
    error = (relative_residual + bending * distance) / linear.min_curvature.clamp_min(0.0)
    scale = norm(point).maximum(0.1 * norm(point - init))
    bound = SAFETY * (error + distance / scale.clamp_min(torch.finfo(point.dtype).tiny))
    # Without a u there is nothing to bound: no cotangent, or a system that has failed.
    solved = size > 0
    return Probe(
        torch.where(solved, bound, torch.zeros_like(bound)),
        torch.where(solved, nonlinearity, torch.zeros_like(nonlinearity)),
    )
