"""Levenberg–Marquardt with a quasi-Newton matrix: kept from step to step, it learns by BFGS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch

from savi.inner.objective import InnerObjective
from savi.inner.optimizers.base import OPTIMIZERS, Point, Step
from savi.inner.optimizers.levenberg_marquardt import (
    Damping,
    LevenbergMarquardt,
    damped_step,
    judge_by_gain,
)
from savi.inner.precision import short_products
from savi.linear.base import dot, norm
from savi.linear.dense import multiply
from savi.settings import setting
from savi.types import Blocks, Counts, Mask, PerExample, Rows

#: A step that leaves more than this part of the gradient is slow.
SLOW = 0.5


class Chord(NamedTuple):
    """Of every example: C, the iterate up to which it has learnt, and how that went.

    ``slow`` counts slow or rejected steps in a row, and is NaN before the first matrix.
    """

    matrix: Blocks
    y: Rows
    gradient: Rows
    slow: PerExample
    damping: Damping


@OPTIMIZERS.register("chord")
@dataclass(frozen=True)
class ChordLevenbergMarquardt(LevenbergMarquardt):
    """Solve (C + μ D) δ = −∇J with a C from an earlier iterate, and accept y + δ where it lowers J.

    A Gauss–Newton matrix costs as much as many gradients. Here it is computed at λ0, and again
    only for an example whose last ``patience`` steps were all rejected or left more than half of
    its gradient. In between it learns from the gradients, which are there anyway: with the step s
    and the change q of ∇J along it,

        C ← C − C s sᵀ C / sᵀCs + q qᵀ / sᵀq                                            (BFGS),

    with Powell's (1978) correction of q where sᵀq < 0.2 sᵀCs, so that C stays positive definite.
    A chord method converges linearly; with BFGS it does so superlinearly. Damping and acceptance
    are those of :class:`LevenbergMarquardt`: J never rises.

    Args:
        patience: slow steps in a row after which the matrix is computed anew.
    """

    patience: int = setting(5, at_least=1)
    name: ClassVar[str] = "chord"

    def init(self, y: Rows) -> Any:
        """No matrix yet."""
        identity = torch.eye(y.shape[-1], dtype=y.dtype, device=y.device).repeat(len(y), 1, 1)
        damping, start = Damping.like(y, self.damping), y.detach()
        unknown = torch.full_like(damping.mu, torch.nan)
        return Chord(identity, start, torch.zeros_like(start), unknown, damping)

    def step(self, objective: InnerObjective, point: Point, state: Any, create_graph: bool) -> Step:
        """One trial step per example, with the matrix brought up to date."""
        s, q = point.y - state.y, point.gradient - state.gradient
        moved = (s != 0).any(dim=-1) & ~state.slow.isnan()
        matrix = bfgs(state.matrix, s, q, moved)
        with torch.no_grad():
            lazy = norm(point.gradient) > SLOW * norm(state.gradient)
            slow = torch.where(moved, torch.where(lazy, state.slow + 1, 0.0), state.slow)
            anew = ~(slow < self.patience)
        matrix = _refreshed(objective, point.y, matrix, anew, create_graph)
        delta, predicted = damped_step(objective, point, matrix, state.damping.mu)
        slow, damping = torch.where(anew, 0.0, slow), state.damping._replace(predicted=predicted)
        return point.y + delta, Chord(matrix, point.y, point.gradient, slow, damping)

    def judge(self, point: Point, trial: Rows, value: PerExample, state: Any) -> tuple[Mask, Any]:
        """Take what lowers J; move μ by the gain ratio; count what was rejected."""
        accepted, damping = judge_by_gain(point.value, value, state.damping, self.max_damping)
        slow = torch.where(accepted, state.slow, state.slow + 1)
        return accepted, state._replace(slow=slow, damping=damping)

    def stalled(self, state: Any, y: Rows, proposal: Rows) -> Counts:
        """Those whose rejections have driven the damping past its ceiling."""
        return super().stalled(state.damping, y, proposal)


def bfgs(matrix: Blocks, s: Rows, q: Rows, moved: Mask) -> Blocks:
    """Powell's damped update of the matrices of the examples that have moved."""
    # The others have s = 0, whose 0/0 would reach the gradient even where it is not taken.
    safe = torch.where(moved.unsqueeze(-1), s, torch.ones_like(s))
    image = multiply(matrix, safe)
    along, seen = dot(safe, image), dot(safe, q)
    bent = moved & (seen < 0.2 * along)
    # Elsewhere the two may be equal.
    keep = torch.where(bent, 0.8 * along / torch.where(bent, along - seen, 1.0), 1.0)
    q = keep.unsqueeze(-1) * q + (1.0 - keep).unsqueeze(-1) * image
    learnt = dot(safe, q)
    usable = moved & (along > 0) & (learnt > 0) & torch.isfinite(learnt)
    along, learnt = (torch.where(usable, t, 1.0)[:, None, None] for t in (along, learnt))
    change = q.unsqueeze(-1) * q.unsqueeze(-2) / learnt
    change = change - image.unsqueeze(-1) * image.unsqueeze(-2) / along
    return matrix + torch.where(usable[:, None, None], change, torch.zeros_like(change))


def _refreshed(
    objective: InnerObjective, y: Rows, matrix: Blocks, rows: Mask, create_graph: bool
) -> Blocks:
    """The objective's curvature in those rows, computed for them alone where that is possible."""
    count = int(rows.sum())
    if count == 0:
        return matrix
    few = None
    if 2 * count <= len(rows) and not create_graph:
        index = rows.nonzero().squeeze(-1)
        few = objective.rows(index)
    # The matrix is an approximation that will be kept and corrected: a few digits will do.
    with short_products():
        if few is None:
            new = objective.curvature(y, create_graph)
            return torch.where(rows[:, None, None], new, matrix)
        return matrix.index_copy(0, index, few.curvature(y[index]))
