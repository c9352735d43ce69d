"""Limited-memory BFGS with a history and a line search of its own for every example."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from savi.inner.objective import InnerObjective
from savi.inner.optimizers.base import OPTIMIZERS, InnerOptimizer, Point, Step
from savi.inner.optimizers.step_length import MIN_LENGTH, judge_length, unit_length
from savi.inner.solution import Reason
from savi.linear.base import dot, norm
from savi.linear.dense import multiply
from savi.settings import setting
from savi.types import Blocks, Counts, Mask, PerExample, Rows

#: A line search that has gone below it begins again, without a history.
RESTART = 2.0**-12


class Search(NamedTuple):
    """What an example remembers: y and ∇J where its last step began, and the moves before it.

    ``length`` is t, the factor on the quasi-Newton step; 0 where it is still to be chosen.
    """

    y: Rows
    gradient: Rows
    pairs: Pairs
    length: PerExample

    def at(self, point: Point) -> Search:
        """After the last move, if it has led to ``point``, or after a trial that was rejected."""
        pairs, new = self.pairs.followed_by(point.y - self.y, point.gradient - self.gradient)
        with torch.no_grad():
            before, waits = self.pairs.known, (point.y == self.y).all(dim=-1)
            model = torch.where(before, self.length.clamp_max(1.0), 1.0)
            length = torch.where(new, model, self.length)
            failed = before & waits & (length < RESTART)
            length = torch.where(failed, 0.0, length)
        return Search(point.y, point.gradient, pairs.forgotten(failed), length)


@OPTIMIZERS.register("lbfgs")
@dataclass(frozen=True)
class LBFGS(InnerOptimizer):
    """y ← y − t A ∇J(y), with A the limited-memory BFGS estimate of H⁻¹ (Liu and Nocedal 1989).

    A comes from the last m moves s and the changes u of the gradient over them, and begins at the
    inverse Fisher matrix of q_λ where λ describes a distribution, at I elsewhere, scaled by the
    newest pair. Pairs with sᵀu ≤ √ε ‖s‖‖u‖ are left out, so that A is positive definite.

    A trial is taken if it lowers J by the Armijo rule. If not, t falls to the power of two that
    quadratic interpolation asks for; with every move it may rise again, up to 1, or without limit
    where J does not bend upwards and leaves no pair. At first t is such that the step has a length
    of about 1. J never rises, and another scale of J changes next to nothing.

    Under a constraint A begins at I, and a step that would leave the feasible set is replaced by
    the feasible minimiser of the model ∇Jᵀδ + δᵀA⁻¹δ / 2t.

    Each step costs one gradient, and no second derivative of J. The iterates are a sensitive
    function of the history: where a solve stops early, the derivative of the steps (``unrolled``)
    can be huge, and that of the solution (``ift``) is the better one.

    Args:
        history: m.
    """

    history: int = setting(10, at_least=1)
    name: ClassVar[str] = "lbfgs"
    divides: ClassVar[bool] = True
    first_order: ClassVar[bool] = True
    judges: ClassVar[bool] = True
    refuses_fresh_noise: ClassVar[str] = (
        "gradients under different noise do not show how the objective bends"
    )

    def init(self, y: Rows) -> Any:
        """No pairs."""
        y = y.detach()
        zeros = torch.zeros_like(y)
        return Search(y, zeros, Pairs.none(y, self.history), zeros[:, 0])

    def step(self, objective: InnerObjective, point: Point, state: Any, create_graph: bool) -> Step:
        """One trial per example."""
        state = state.at(point)
        metric = None
        if objective.has_fisher and not objective.constrained:
            metric = partial(objective.natural_gradient, point.y)
        direction = -state.pairs.inverse_product(point.gradient, metric)
        length = torch.where(state.length > 0, state.length, unit_length(direction))
        delta = length.unsqueeze(-1) * direction
        if objective.constrained:
            delta = _feasible(objective, point, delta, state.pairs, length)
        return point.y + delta, state._replace(length=length)

    def judge(self, point: Point, trial: Rows, value: PerExample, state: Any) -> tuple[Mask, Any]:
        """Take what lowers J enough; shorten the other steps."""
        accepted, factor = judge_length(point, trial, value)
        # A model that has just learned from a step deserves no shorter one.
        factor = torch.where(accepted, factor.clamp_min(1.0), factor)
        length = (state.length * factor).clamp(MIN_LENGTH, 1.0 / MIN_LENGTH)
        return accepted, state._replace(length=length)

    def stalled(self, state: Any, y: Rows, proposal: Rows) -> Counts:
        """Those that did not move, or found no t at which J falls."""
        reason = super().stalled(state, y, proposal)
        return torch.where(state.length <= MIN_LENGTH, Reason.FAILED_LINE_SEARCH, reason)


def _feasible(
    objective: InnerObjective, point: Point, delta: Rows, pairs: Pairs, length: PerExample
) -> Rows:
    """δ where y + δ is feasible; elsewhere the minimiser of the model that is."""
    with torch.no_grad():
        trial = point.y + delta
        leaves = (objective.project(trial) != trial).any(dim=-1, keepdim=True)
        if not leaves.any():
            return delta
    matrix = pairs.matrix() / length[:, None, None]
    inside, _ = objective.model_step(matrix, point.gradient, point.y)
    return torch.where(leaves, inside, delta)


InverseMetric = Callable[[Tensor], Tensor]


class Pairs(NamedTuple):
    """The last m moves s, each of length 1, and the changes u of the gradient over them.

    The newest is the last; an empty place holds zeros, and has no effect.
    """

    moves: Float[Tensor, "B M P"]
    changes: Float[Tensor, "B M P"]

    @classmethod
    def none(cls, y: Rows, history: int) -> Pairs:
        """Room for ``history`` pairs."""
        empty = y.new_zeros(len(y), history, y.shape[-1])
        return cls(empty, empty)

    @property
    def known(self) -> Mask:
        """Which examples have a pair."""
        return self.moves[:, -1].any(dim=-1)

    def followed_by(self, move: Rows, change: Rows) -> tuple[Pairs, Mask]:
        """With another pair, and without the oldest, where sᵀu > √ε ‖s‖‖u‖; and where that is."""
        with torch.no_grad():
            # BFGS does not change with the scale of a pair: taken as a constant, it is exact.
            size = norm(move).unsqueeze(-1)
            size = torch.where(size > 0, size, torch.ones_like(size))
        s, u = move / size, change / size
        with torch.no_grad():
            bent = dot(s, u) > torch.finfo(s.dtype).eps ** 0.5 * norm(u)
        return Pairs(*(_push(bent, old, new) for old, new in zip(self, (s, u), strict=True))), bent

    def forgotten(self, rows: Mask) -> Pairs:
        """Without the pairs of some examples."""
        return Pairs(*(torch.where(rows[:, None, None], 0.0, part) for part in self))

    def inverse_product(self, g: Rows, metric: InverseMetric | None = None) -> Rows:
        """A g, with A the estimate of H⁻¹ that begins at A₀, by the two-loop recursion.

        Args:
            g: the vectors.
            metric: v ↦ M v with M positive definite, and A₀ = τM; by default M = I. The scale τ is
                sᵀu / uᵀMu for the newest pair, and 1 without any.
        """
        pairs = list(zip(self.moves.unbind(1), self.changes.unbind(1), strict=True))
        inverses = [_inverse(dot(s, u)).unsqueeze(-1) for s, u in pairs]
        weights = []
        for (s, u), rho in zip(reversed(pairs), reversed(inverses), strict=True):
            weights.append(rho * dot(s, g).unsqueeze(-1))
            g = g - weights[-1] * u
        g = self._scale(metric).unsqueeze(-1) * (g if metric is None else metric(g))
        for (s, u), rho, weight in zip(pairs, inverses, reversed(weights), strict=True):
            g = g + (weight - rho * dot(u, g).unsqueeze(-1)) * s
        return g

    def matrix(self) -> Blocks:
        """A⁻¹ for M = I, by an update of rank two for each pair."""
        size = self.moves.shape[-1]
        scale = 1.0 / self._scale(None)
        matrix = torch.diag_embed(scale.unsqueeze(-1).expand(-1, size))
        for s, u in zip(self.moves.unbind(1), self.changes.unbind(1), strict=True):
            image = multiply(matrix, s)
            for vector, divisor in ((u, dot(s, u)), (image, -dot(s, image))):
                outer = vector.unsqueeze(-1) * vector.unsqueeze(-2)
                matrix = matrix + _inverse(divisor)[:, None, None] * outer
        return matrix

    def _scale(self, metric: InverseMetric | None) -> PerExample:
        """τ."""
        s, u = self.moves[:, -1], self.changes[:, -1]
        size = dot(u, u if metric is None else metric(u))
        return torch.where(self.known, dot(s, u) * _inverse(size), 1.0)


def _push(rows: Mask, old: Float[Tensor, "B M P"], new: Rows) -> Float[Tensor, "B M P"]:
    shifted = torch.cat([old[:, 1:], new.unsqueeze(1)], dim=1)
    return torch.where(rows[:, None, None], shifted, old)


def _inverse(x: PerExample) -> PerExample:
    """1/x, and 0 for the 0 of an empty place."""
    empty = x == 0
    return torch.where(empty, 0.0, 1.0 / torch.where(empty, 1.0, x))
