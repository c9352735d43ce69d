"""The truncated Neumann series of the inverse, with a step that is made safe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from savi.linear.base import (
    SOLVERS,
    LinearSolution,
    SymmetricOperator,
    dot,
    irregular,
    norm,
    rounding,
)
from savi.linear.iterative import (
    Correction,
    IterativeSolver,
    better,
    curvature_along,
    gain,
    gauss_newton_preconditioner,
    restarted,
)
from savi.settings import setting
from savi.types import Counts, Mask, PerExample, Rows

#: η λ_max. The series converges below 2; above 1 the soft directions, which need most of the steps,
#: converge faster, and 1.5 leaves room for a λ_max that is underestimated by a quarter.
_RELAXATION = 1.5


@SOLVERS.register("neumann")
@dataclass(frozen=True)
class Neumann(IterativeSolver):
    """u ← u + η C⁻¹(v − H u), the partial sums of H⁻¹ = η Σ_j (I − η C⁻¹H)ʲ C⁻¹.

    The series of Lorraine, Vicol and Duvenaud (arXiv 1911.02590, 2019), with the Gauss–Newton
    matrix C as preconditioner where the problem offers one (else C = I). It needs about
    κ ln(1/rtol) steps for a condition number κ of C⁻¹H, where conjugate gradients need √κ.

    η = 1.5 / λ_max, with each example's largest eigenvalue of C⁻¹H estimated by power iteration.
    That is an estimate from below, so a step that would increase rᵀC⁻¹r, which every safe step
    reduces, is not made, and η is halved for that example. A residual or a power iterate with
    wᵀHw ≤ 0 ends an example as ``INDEFINITE``. For a right-hand side of 0 no direction is tried,
    and ``min_curvature`` is infinite. Steps along the null space of a singular H, which take
    nothing of the residual, are not returned.

    Args:
        max_steps: at most so many steps, those not made included; None means 500.
        power_iterations: products with H that estimate λ_max.
    """

    power_iterations: int = setting(10, at_least=1)
    name: ClassVar[str] = "neumann"

    def step_limit(self, size: int) -> int:
        """``max_steps``, or 500: the steps needed do not depend on the size."""
        return self.max_steps or 500

    def solve(self, operator: SymmetricOperator, rhs: Rows) -> LinearSolution:
        """Iterate until every example has stopped; the residual returned is recomputed."""
        precondition = gauss_newton_preconditioner(operator)
        largest, lowest, met = _power_iteration(operator, precondition, rhs, self.power_iterations)

        def cycle(
            r: Tensor, active: Tensor, target: Tensor, budget: Tensor, scale: Tensor
        ) -> Correction:
            eta, scale = _RELAXATION / largest, scale.maximum(met)
            return _series(operator, precondition, eta, lowest, r, active, target, budget, scale)

        return restarted(cycle, operator, rhs, self.rtol, self.step_limit(rhs.shape[-1]))


def _series(
    operator: SymmetricOperator,
    precondition: Callable[[Tensor], Tensor],
    eta: PerExample,
    curvature: PerExample,
    r: Rows,
    running: Mask,
    target: PerExample,
    budget: Counts,
    scale: PerExample,
) -> Correction:
    """The series for H⁻¹r, until every example has met its target or spent its budget."""
    # A NaN is no positive curvature.
    indefinite = running & ~(curvature > rounding(r.shape[-1], scale))
    running = running & ~indefinite
    u, z, best = torch.zeros_like(r), precondition(r), torch.zeros_like(r)
    size = least = torch.linalg.vector_norm(r, dim=-1)
    steps = torch.zeros_like(budget)
    while True:
        running = running & (size > target) & (steps < budget)
        if not running.any():
            return Correction(best, steps, indefinite, curvature, scale)
        steps = steps + running.long()
        hz = operator.matvec(z)
        along_z, scale = curvature_along(z, hz), scale.maximum(gain(z, hz))
        positive = along_z > rounding(r.shape[-1], scale)
        curvature = torch.where(running, curvature.minimum(along_z), curvature)
        indefinite = indefinite | (running & ~positive)
        running = running & positive

        r_next = r - eta.unsqueeze(-1) * hz
        z_next = precondition(r_next)
        # rᵀC⁻¹r falls by η (Hz)ᵀ(z + z_next), which is not the difference of two close numbers.
        shrinks = running & (dot(hz, z + z_next) > 0)
        mask = shrinks.unsqueeze(-1)
        u = torch.where(mask, u + eta.unsqueeze(-1) * z, u)
        r, z = torch.where(mask, r_next, r), torch.where(mask, z_next, z)
        size = torch.linalg.vector_norm(r, dim=-1)
        kept = shrinks & better(size, least, u - best, scale)
        best, least = torch.where(kept.unsqueeze(-1), u, best), torch.where(kept, size, least)
        eta = torch.where(running & ~shrinks, 0.5 * eta, eta)


def _power_iteration(
    operator: SymmetricOperator,
    precondition: Callable[[Tensor], Tensor],
    like: Rows,
    iterations: int,
) -> tuple[PerExample, PerExample, PerExample]:
    """The largest wᵀHw / wᵀCw, smallest wᵀHw / wᵀw and largest ‖Hw‖ / ‖w‖ for w ← C⁻¹Hw.

    C w is the Hw of the iterate before, so that C itself is not needed.
    """
    cw = irregular(like)
    w = precondition(cw)
    largest = torch.full_like(like[:, 0], -torch.inf)
    lowest, scale = torch.full_like(largest, torch.inf), torch.zeros_like(largest)
    for _ in range(iterations):
        hw = operator.matvec(w)
        along = dot(w, hw)
        largest = largest.maximum(along / dot(w, cw))
        lowest = lowest.minimum(along / dot(w, w))
        scale = scale.maximum(gain(w, hw))
        size = norm(hw).unsqueeze(-1)
        # H w = 0 says that H is singular; the iterate is then kept.
        cw = torch.where(size > 0, hw / size, cw)
        w = precondition(cw)
    return largest, lowest, scale
