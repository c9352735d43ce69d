"""Limited-memory BFGS with a history and a line search of its own for every example."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from savi.errors import InputError, require_at_least
from savi.inner.objective import InnerObjective
from savi.inner.optimizers.base import OPTIMIZERS, InnerOptimizer, Point
from savi.inner.optimizers.bfgs import Pairs
from savi.inner.optimizers.step_length import MIN_LENGTH, judge_length, unit_length

#: A line search that has gone below it begins again, without a history.
RESTART = 2.0**-12


class Search(NamedTuple):
    """What an example remembers.

    Attributes:
        y: where its last step began.
        gradient: ∇J there.
        pairs: the moves before it.
        length: t, the factor on the quasi-Newton step; 0 where it is still to be chosen.
    """

    y: Float[Tensor, "B P"]
    gradient: Float[Tensor, "B P"]
    pairs: Pairs
    length: Float[Tensor, " B"]

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

    Raises:
        InputError: if m is no whole number above 0.
    """

    history: int = 10
    name: ClassVar[str] = "lbfgs"
    first_order: ClassVar[bool] = True
    judges: ClassVar[bool] = True
    refuses_fresh_noise: ClassVar[str] = (
        "gradients under different noise do not show how the objective bends"
    )

    def __post_init__(self) -> None:
        owner = f"inner.optimizer '{self.name}': history"
        require_at_least(owner, self.history, 1)
        if not isinstance(self.history, int):
            raise InputError(f"{owner} is {self.history}: set it to a whole number")

    def init(self, y: Float[Tensor, "B P"]) -> Any:
        """No pairs."""
        y = y.detach()
        zeros = torch.zeros_like(y)
        return Search(y, zeros, Pairs.none(y, self.history), zeros[:, 0])

    def step(
        self, objective: InnerObjective, point: Point, state: Any, create_graph: bool
    ) -> tuple[Float[Tensor, "B P"], Any]:
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

    def judge(
        self, point: Point, trial: Float[Tensor, "B P"], value: Float[Tensor, " B"], state: Any
    ) -> tuple[Bool[Tensor, " B"], Any]:
        """Take what lowers J enough; shorten the other steps."""
        accepted, factor = judge_length(point, trial, value)
        # A model that has just learned from a step deserves no shorter one.
        factor = torch.where(accepted, factor.clamp_min(1.0), factor)
        length = (state.length * factor).clamp(MIN_LENGTH, 1.0 / MIN_LENGTH)
        return accepted, state._replace(length=length)

    def stalled(self, state: Any, y: Tensor, proposal: Tensor) -> Bool[Tensor, " B"]:
        """Those that did not move, or found no t at which J falls."""
        return super().stalled(state, y, proposal) | (state.length <= MIN_LENGTH)


def _feasible(
    objective: InnerObjective,
    point: Point,
    delta: Float[Tensor, "B P"],
    pairs: Pairs,
    length: Float[Tensor, " B"],
) -> Float[Tensor, "B P"]:
    """δ where y + δ is feasible; elsewhere the minimiser of the model that is."""
    with torch.no_grad():
        trial = point.y + delta
        leaves = (objective.project(trial) != trial).any(dim=-1, keepdim=True)
        if not leaves.any():
            return delta
    matrix = pairs.matrix() / length[:, None, None]
    inside, _ = objective.model_step(matrix, point.gradient, point.y)
    return torch.where(leaves, inside, delta)
