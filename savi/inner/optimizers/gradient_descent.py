"""Gradient descent, plain and with heavy-ball momentum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from savi.inner.objective import InnerObjective
from savi.inner.optimizers.base import OPTIMIZERS, InnerOptimizer, Point, Step
from savi.settings import positive, setting
from savi.types import Rows


@OPTIMIZERS.register("gd")
@dataclass(frozen=True)
class GradientDescent(InnerOptimizer):
    """v ← m v − α ∇J(y);  y ← y + v.

    With momentum m = 0, K steps on a quadratic with Hessian H give
    λK − λ* = (I − αH)^K (λ0 − λ*), which contracts iff α < 2 / λmax(H). For a Gaussian decoder
    λmax(H) is about 1 + σmax(J)²/γ: the step size must shrink with γ.

    Args:
        lr: the step size α.
        momentum: m in [0, 1).
    """

    lr: float = positive(0.01)
    momentum: float = setting(0.0, at_least=0, below=1)
    name: ClassVar[str] = "gd"
    first_order: ClassVar[bool] = True
    has_fixed_point: ClassVar[bool] = True

    def init(self, y: Rows) -> Any:
        """The velocity v, at rest."""
        return torch.zeros_like(y)

    def step(self, objective: InnerObjective, point: Point, state: Any, create_graph: bool) -> Step:
        """One heavy-ball step."""
        velocity = self.momentum * state - self.lr * point.gradient
        return point.y + velocity, velocity

    def fixed_point(self, objective: InnerObjective, point: Point) -> Rows:
        """A step from rest, y − α ∇J(y), moved to the nearest feasible point."""
        return objective.project(point.y - self.lr * point.gradient)


@OPTIMIZERS.register("momentum")
@dataclass(frozen=True)
class Momentum(GradientDescent):
    """Gradient descent with heavy-ball momentum, 0.9 unless set otherwise (Polyak 1964)."""

    momentum: float = setting(0.9, at_least=0, below=1)
    name: ClassVar[str] = "momentum"
