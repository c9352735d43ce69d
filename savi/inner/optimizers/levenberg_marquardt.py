"""Levenberg–Marquardt with damping, acceptance and stopping of its own for every example."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from savi.errors import SettingError
from savi.inner.objective import InnerObjective
from savi.inner.optimizers.base import OPTIMIZERS, CurvatureOptimizer, Point, Step
from savi.inner.precision import short_products
from savi.inner.solution import Reason
from savi.linear.base import dot
from savi.linear.dense import multiply, plus_diagonal
from savi.settings import positive
from savi.types import Blocks, Counts, Mask, PerExample, Rows

#: Relative to the diagonal of C; below it, damping changes no digit of a step.
MIN_DAMPING = 1e-16


class Damping(NamedTuple):
    """Of every example: μ, the factor by which the next rejection raises it, and a prediction.

    ``predicted`` is the decrease of J that the model foretells for the step being taken; NaN where
    there is no step.
    """

    mu: PerExample
    growth: PerExample
    predicted: PerExample

    @classmethod
    def like(cls, y: Rows, mu: float) -> Damping:
        """The same μ for every example."""
        start = torch.full_like(y[:, 0].detach(), mu)
        return cls(start, torch.full_like(start, 2.0), torch.zeros_like(start))


@OPTIMIZERS.register("levenberg_marquardt")
@dataclass(frozen=True)
class LevenbergMarquardt(CurvatureOptimizer):
    """Solve (C + μ D) δ = −∇J and accept y + δ only where it lowers J.

    C is the objective's curvature (Gauss–Newton where the problem offers it) and D = diag |C|, so
    that the step does not change with the scale of a coordinate (Marquardt 1963), floored at a
    small fraction of the mean absolute row sum of C, so that a large μ makes any C positive
    definite. Under a constraint δ is the feasible minimiser of the same damped model. The gain
    ratio ϱ = (J(y) − J(y+δ)) / (predicted decrease) moves the damping as in Fletcher (1971): an
    accepted step divides μ by 10 if ϱ > 3/4 and doubles it if ϱ < 1/4; a rejected one sets
    μ ← μ·ν and ν ← 2ν (Nielsen 1999).
    J never rises: no step size needs tuning when γ changes.

    Acceptance and μ are piecewise constant in the inputs, so that the unrolled derivative, which
    treats both as constants, is exact almost everywhere. (With Nielsen's smooth rule for accepted
    steps it would be wrong: μ would then carry a derivative of its own.)

    Args:
        damping: the initial μ.
        max_damping: an example whose μ exceeds it has stalled.
    """

    damping: float = positive(1e-3)
    max_damping: float = positive(1e8)
    name: ClassVar[str] = "levenberg_marquardt"
    judges: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.damping >= self.max_damping:
            raise SettingError(
                "damping", f"is {self.damping}: set it below max_damping {self.max_damping}"
            )

    def init(self, y: Rows) -> Any:
        """The same initial damping for every example."""
        return Damping.like(y, self.damping)

    def matrix(self, objective: InnerObjective, y: Rows, create_graph: bool) -> Blocks:
        """C(y); of an approximation such as Gauss and Newton's a few digits will do."""
        with short_products(objective.gauss_newton):
            return objective.curvature(y, create_graph)

    def step(self, objective: InnerObjective, point: Point, state: Any, create_graph: bool) -> Step:
        """One trial step per example."""
        curvature = self.matrix(objective, point.y, create_graph)
        delta, predicted = damped_step(objective, point, curvature, state.mu)
        return point.y + delta, state._replace(predicted=predicted)

    def judge(self, point: Point, trial: Rows, value: PerExample, state: Any) -> tuple[Mask, Any]:
        """Take what lowers J; move μ by the gain ratio."""
        return judge_by_gain(point.value, value, state, self.max_damping)

    def stalled(self, state: Any, y: Rows, proposal: Rows) -> Counts:
        """Those whose rejections have driven the damping past its ceiling."""
        return (state.mu > self.max_damping) * Reason.DAMPING_CEILING


def damped_step(
    objective: InnerObjective, point: Point, curvature: Blocks, mu: PerExample
) -> tuple[Rows, PerExample]:
    """δ, and −(gᵀδ + ½ δᵀCδ): the decrease of the quadratic model with curvature C, undamped.

    The prediction is NaN where C + μD is not positive definite, and δ = 0.
    """
    diagonal = curvature.diagonal(dim1=-2, dim2=-1).abs()
    row_sum = curvature.abs().sum(dim=-1).mean(dim=-1, keepdim=True)
    scale = diagonal + 1e-6 * row_sum + _tiny(diagonal)
    damped = plus_diagonal(curvature, mu.unsqueeze(-1) * scale)
    delta, indefinite = objective.model_step(damped, point.gradient, point.y)
    with torch.no_grad():
        d, g = delta.detach(), point.gradient.detach()
        predicted = -dot(d, g + 0.5 * multiply(curvature.detach(), d))
    return delta, torch.where(indefinite, torch.nan, predicted)


def judge_by_gain(
    before: PerExample, after: PerExample, state: Damping, max_damping: float
) -> tuple[Mask, Damping]:
    """Acceptance, and the damping after it."""
    decrease = before - after
    accepted = lowers(decrease, state.predicted, before)
    ratio = decrease / state.predicted.clamp_min(_tiny(decrease))
    factor = torch.where(ratio > 0.75, 0.1, torch.where(ratio < 0.25, 2.0, torch.ones_like(ratio)))
    mu = state.mu * torch.where(accepted, factor.to(state.mu), state.growth)
    # Bounded, because frozen examples are stepped along with their neighbours: an infinite μ
    # is NaN in the backward even under a zero cotangent, and μ = 0 could not grow again.
    return accepted, state._replace(
        mu=mu.clamp(MIN_DAMPING, 2.0 * max_damping),
        growth=torch.where(accepted, 2.0, 2.0 * state.growth).to(state.mu),
    )


def lowers(decrease: PerExample, predicted: PerExample, value: PerExample) -> Mask:
    """Whether J fell, or would fall by less than J's own rounding error and did not rise more.

    Never where the prediction is NaN: there is no step.
    """
    fell = (decrease > 0) | invisible(decrease, predicted, value)
    return torch.isfinite(decrease + predicted) & fell


def invisible(decrease: PerExample, predicted: PerExample, value: PerExample) -> Mask:
    """Whether both are lost in J's own rounding error."""
    rounding = 8.0 * torch.finfo(value.dtype).eps * value.abs()
    return (predicted.abs() <= rounding) & (decrease.abs() <= rounding)


def _tiny(like: Tensor) -> float:
    return torch.finfo(like.dtype).tiny
