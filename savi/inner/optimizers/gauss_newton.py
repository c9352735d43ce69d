"""Gauss–Newton with a fixed step-size schedule, as in variational Laplace autoencoders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from savi.inner.objective import InnerObjective
from savi.inner.optimizers.base import OPTIMIZERS, CurvatureOptimizer, Point, Step
from savi.settings import positive
from savi.types import Rows


@OPTIMIZERS.register("gauss_newton")
@dataclass(frozen=True)
class GaussNewton(CurvatureOptimizer):
    """y ← y − α_t C(y)⁻¹ ∇J(y), α_t = lr / (t+1) if ``decay``, else lr.

    C is the objective's curvature. For the MAP objective of a Gaussian decoder g with Jacobian W,
    C = I + WᵀW/γ and the full step lands on C⁻¹Wᵀ(x − g(z) + Wz)/γ: the update of Park et al.
    (2019), which damps it by 0.5/(t+1). There is no safeguard: the method is published so. Under a
    constraint the step is the feasible minimiser of the model ∇Jᵀδ + δᵀCδ/(2α_t).
    An example whose C is not positive definite stays where it is.

    Args:
        lr: α_0.
        decay: whether the step size decays as 1/(t+1).
    """

    lr: float = positive(0.5)
    decay: bool = True
    name: ClassVar[str] = "gauss_newton"

    def init(self, y: Rows) -> Any:
        """The number of steps taken, per example."""
        return torch.zeros_like(y[:, :1])

    def step(self, objective: InnerObjective, point: Point, state: Any, create_graph: bool) -> Step:
        """One damped Gauss–Newton step."""
        step_size = self.lr / (state + 1 if self.decay else torch.ones_like(state))
        # A step size on C⁻¹g would keep a constrained iterate off the boundary for ever.
        matrix = objective.curvature(point.y, create_graph) / step_size.unsqueeze(-1)
        delta, _ = objective.model_step(matrix, point.gradient, point.y)
        return point.y + delta, state + 1
