"""Natural gradient descent in the parameters of the posterior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from savi.inner.objective import InnerObjective
from savi.inner.optimizers.base import OPTIMIZERS, InnerOptimizer, Point, Step
from savi.inner.optimizers.step_length import MIN_LENGTH, judge_length
from savi.inner.solution import Reason
from savi.settings import positive
from savi.types import Counts, Mask, PerExample, Rows

#: How far the step size may grow above the one it began with.
MAX_GROWTH = 2.0**10


@OPTIMIZERS.register("natural_gradient")
@dataclass(frozen=True)
class NaturalGradient(InnerOptimizer):
    """y ← y − α F(y)⁻¹ ∇J(y) + O(α²), with F the Fisher matrix of q_λ at λ = y (Amari 1998).

    The step is steepest in KL(q_λ ‖ q_λ'), whatever parameters describe q, and needs no second
    derivative of J. What is of higher order in α keeps long steps among sound distributions, where
    the family has such a ``natural_step``. α is each example's own and needs no tuning: a trial is
    taken only if it lowers J by the Armijo rule, and α moves by the power of two that quadratic
    interpolation along the step asks for. J never rises.

    Args:
        lr: the initial α. At 1, a diagonal Gaussian whose variances are right takes Newton's step
            with the diagonal of the Hessian in the mean.
        scale_lr: how much longer or shorter the step of the distribution's scale is. What few
            samples say of the scale is noise for the most part, which a full step fits.
    """

    lr: float = positive(1.0)
    scale_lr: float = positive(1.0)
    name: ClassVar[str] = "natural_gradient"
    first_order: ClassVar[bool] = True
    judges: ClassVar[bool] = True
    needs_fisher: ClassVar[bool] = True
    adapts: ClassVar[bool] = True
    refuses_constraints: ClassVar[str] = (
        "the feasible step nearest in KL is not the one nearest in λ, which would settle elsewhere"
    )

    def init(self, y: Rows) -> Any:
        """The same initial α for every example."""
        return torch.full_like(y[:, 0].detach(), self.lr)

    def step(self, objective: InnerObjective, point: Point, state: Any, create_graph: bool) -> Step:
        """One trial per example."""
        return objective.natural_step(point.y, point.gradient, state, self.scale_lr), state

    def judge(self, point: Point, trial: Rows, value: PerExample, state: Any) -> tuple[Mask, Any]:
        """Take what lowers J enough; move α."""
        accepted, factor = judge_length(point, trial, value)
        return accepted, (state * factor).clamp(self.lr * MIN_LENGTH, self.lr * MAX_GROWTH)

    def step_sizes(self, state: Any) -> PerExample:
        """α."""
        return state

    def stalled(self, state: Any, y: Rows, proposal: Rows) -> Counts:
        """Those that did not move, or found no α at which J falls."""
        reason = super().stalled(state, y, proposal)
        return torch.where(state <= self.lr * MIN_LENGTH, Reason.FAILED_LINE_SEARCH, reason)
