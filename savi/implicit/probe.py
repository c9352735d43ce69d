"""How far λK is from the solution, and how much F = ∇J bends on the way there."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from savi.implicit.certificate import SAFETY
from savi.implicit.nearby import row_factors, step_size
from savi.inner.objective import InnerObjective
from savi.linear.base import LinearSolution, norm
from savi.types import PerExample, Rows


@dataclass(frozen=True)
class Probe:
    """Two gradients near the solution, compared with the linearisation that the theorem uses.

    Attributes:
        error_bound: an estimate of the relative error of the implicit gradient, see :func:`probe`.
        nonlinearity: ‖F(λK + p) − F(λK) − Hp‖ / ‖Hp‖, the worse of the two p; infinite where a
            constraint lies between λK and the solution.
        expected: ‖Hp‖, the smaller of the two.
        displacement: ‖s‖ relative to λ.
        unsolved: the part of ``error_bound`` that the linear solve's residual has.
    """

    error_bound: PerExample
    nonlinearity: PerExample
    expected: PerExample
    displacement: PerExample
    unsolved: PerExample


def probe(
    objective: InnerObjective,
    init: Rows,
    point: Rows,
    residual: Rows,
    linear: LinearSolution,
    v: Rows,
    newton_step: Rows,
) -> Probe:
    """Look at F at λK + s ± hû: s = −H⁻¹F leads to the solution, û = u/‖u‖ is where u points.

    The adjoint is u = H⁻¹v; at the solution it would be u* = H*⁻¹v. With μ the smallest
    eigenvalue of H,

        ‖u − u*‖ / ‖u‖ ≤ ‖H*û − v/‖u‖‖ / μ                                    to first order,

    where ‖H*û − v/‖u‖‖ is at most ϱ/‖u‖ + Λ‖s‖, with ϱ the residual of the linear solve and Λ the
    Lipschitz constant of H as the two points show it, Λ = 2 ‖F(λK + p) − F(λK) − Hp‖ / ‖p‖²; and
    it is [F(λK + s + hû) − F(λK + s − hû)] / 2h − v/‖u‖ by differences. The larger counts.

    What u is applied to, ∂F/∂θ, is taken to vary on the scale of λ itself, max(‖λK‖, ‖λK − λ0‖/10)
    with the second for solutions near 0: by ‖s‖ over it, and by the same for each coordinate,
    weighted by |u|.

    ``error_bound`` is twice the sum. It is an estimate and no proof: Λ is sampled, μ an estimate
    from above. The products Hs = −F and Hû = v/‖u‖ are known, so that the price is two gradients;
    both signs of û are tried because a kink at λK shows on one side of it only, and every row
    has an h of its own, so that an objective that mixes its rows shows.

    Args:
        objective: the inner objective.
        init: λ0.
        point: λK.
        residual: F(λK).
        linear: u and what is known of its solve.
        v: the right-hand side of that solve.
        newton_step: s.
    """
    u, tiny = linear.value, torch.finfo(point.dtype).tiny
    size, distance = norm(u), norm(newton_step)
    direction = torch.where(size > 0, u.mT / size, 0.0).mT
    image = torch.where(size > 0, v.mT / size, 0.0).mT
    scale = norm(point).maximum(norm(point - init))
    h = step_size(point) * row_factors(point) * torch.where(scale > 0, scale, 1.0).unsqueeze(-1)

    target = point + newton_step
    nonlinearity, bending = torch.zeros_like(size), torch.zeros_like(size)
    smallest = torch.full_like(size, torch.inf)
    seen = []
    for signed in (h, -h):
        moved = objective.project(target + signed * direction)
        seen.append(objective.residual(moved, objective.gradient(moved)[1]))
        product = -residual + signed * image
        mismatch, expected = norm(seen[-1] - residual - product), norm(product)
        nonlinearity = nonlinearity.maximum(mismatch / expected.clamp_min(tiny))
        bending = bending.maximum(2.0 * mismatch / norm(moved - point).square().clamp_min(tiny))
        smallest = smallest.minimum(expected)
    held_back = norm(objective.project(target) - target) > 0.1 * distance
    nonlinearity = torch.where(held_back, torch.inf, nonlinearity)

    by_differences = norm((seen[0] - seen[1]) / (2.0 * h) - image)
    left = linear.residual * norm(v) / size
    softest = linear.min_curvature.clamp_min(0.0)
    error = (left + bending * distance).maximum(by_differences) / softest
    displacement = _displacement(init, point, newton_step, u)
    bound = SAFETY * (error + displacement)
    # Without a u there is nothing to bound: no cotangent, or a system that has failed.
    solved = size > 0
    return Probe(
        torch.where(solved, bound, torch.zeros_like(bound)),
        torch.where(solved, nonlinearity, torch.zeros_like(nonlinearity)),
        smallest,
        torch.where(solved, displacement, torch.zeros_like(displacement)),
        torch.where(solved, SAFETY * left / softest, torch.zeros_like(left)),
    )


def _displacement(init: Rows, point: Rows, newton_step: Rows, u: Rows) -> PerExample:
    """The way to the solution relative to λ, in the norm and weighted by |u|; the larger."""
    tiny = torch.finfo(point.dtype).tiny
    scale = norm(point).maximum(0.1 * norm(point - init)).clamp_min(tiny)
    scales = point.abs().maximum(0.1 * (point - init).abs())
    weight = u.abs() / u.abs().amax(dim=-1, keepdim=True).clamp_min(tiny)
    weighted = (weight * newton_step.abs()).sum(dim=-1)
    return (norm(newton_step) / scale).maximum(
        weighted / (weight * scales).sum(dim=-1).clamp_min(tiny)
    )
