"""Adam, in a form whose second derivatives exist everywhere."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from savi.inner.objective import InnerObjective
from savi.inner.optimizers.base import OPTIMIZERS, InnerOptimizer, Point, Step
from savi.settings import positive, setting
from savi.types import Rows


class AdamState(NamedTuple):
    """First and second moment of the gradient, and the number of steps taken, per example."""

    m: Rows
    v: Rows
    steps: Float[Tensor, "B 1"]


@OPTIMIZERS.register("adam")
@dataclass(frozen=True)
class Adam(InnerOptimizer):
    """Adam (Kingma and Ba 2015) on each coordinate of λ.

    m ← β₁m + (1−β₁)g;  v ← β₂v + (1−β₂)g²;  y ← y − α m̂ / (√(v̂ + ε²) + ε).

    The ε² inside the root keeps d√v/dv finite at v = 0, where the textbook form gives NaN second
    derivatives.

    Args:
        lr: the step size α.
        beta1: β₁ in [0, 1).
        beta2: β₂ in [0, 1).
        eps: ε > 0.
    """

    lr: float = positive(0.05)
    beta1: float = setting(0.9, at_least=0, below=1)
    beta2: float = setting(0.999, at_least=0, below=1)
    eps: float = positive(1e-8)
    name: ClassVar[str] = "adam"
    divides: ClassVar[bool] = True
    first_order: ClassVar[bool] = True

    def init(self, y: Rows) -> Any:
        """Zero moments."""
        return AdamState(torch.zeros_like(y), torch.zeros_like(y), torch.zeros_like(y[:, :1]))

    def step(self, objective: InnerObjective, point: Point, state: Any, create_graph: bool) -> Step:
        """One bias-corrected step."""
        g, t = point.gradient, state.steps + 1
        m = self.beta1 * state.m + (1.0 - self.beta1) * g
        v = self.beta2 * state.v + (1.0 - self.beta2) * g.square()
        m_hat = m / _weight(self.beta1, t)
        v_hat = v / _weight(self.beta2, t)
        scale = torch.sqrt(v_hat + self.eps**2) + self.eps
        # In any other metric a constrained iterate would settle at a point that is no solution.
        y = objective.project(point.y - self.lr * m_hat / scale, metric=scale)
        return y, AdamState(m, v, t)


def _weight(beta: float, steps: Float[Tensor, "B 1"]) -> Float[Tensor, "B 1"]:
    """1 − βᵗ, without the cancellation of that form in float32."""
    return -torch.expm1(steps * math.log(beta)) if beta > 0.0 else torch.ones_like(steps)
