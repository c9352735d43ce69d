"""Backpropagation through every inner step of momentum descent, which is run backwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from savi.errors import InputError
from savi.gradients.base import BACKENDS, EncoderGradient
from savi.gradients.exact_momentum import ExactMomentum, as_fraction
from savi.gradients.recompute import RecomputingBackend, Segment
from savi.inner.history import Iterate, WholeBatch
from savi.inner.loop import InnerLoop, Trajectory
from savi.inner.objective import InnerObjective
from savi.inner.optimizers import GradientDescent
from savi.inner.optimizers.base import InnerOptimizer


@BACKENDS.register("reversible")
@dataclass(frozen=True)
class Reversible(RecomputingBackend):
    """The gradient of ``unrolled`` without stored iterates (Maclaurin et al. 2015).

    The loop runs in integer arithmetic (:class:`ExactMomentum`); the backward undoes its steps one
    by one, bit by bit, from λK to λ0, and pulls the cotangent through each of them. Only the
    log2(1/momentum) bits that each scalar of the velocity loses at a step are kept: 0.15 at a
    momentum of 0.9. The price is two more gradients a step.

    The reversal must arrive where the run began. If it does not, the objective is not
    deterministic, and the backward raises.

    arXiv 1502.03492. It needs a momentum above 0, because what plain descent forgets cannot be
    kept in a few bits, and a problem without constraints, because a projection cannot be undone.
    """

    name: ClassVar[str] = "reversible"
    encoder_gradient: ClassVar[EncoderGradient] = EncoderGradient.EXACT
    memory: ClassVar[str] = "O(1)"
    second_derivatives: ClassVar[str] = "refused"
    exact: ClassVar[bool] = True
    refuses_constraints: ClassVar[str] = "a projection cannot be undone"
    optimizers: ClassVar[tuple[str, ...] | None] = ("gd", "momentum")

    def check_optimizer(self, optimizer: InnerOptimizer) -> None:
        """Refuse all but descent with momentum."""
        if not isinstance(optimizer, GradientDescent):
            raise self.refusal(optimizer, "only steps with a momentum above 0 can be undone")
        if optimizer.momentum == 0.0:
            raise InputError(
                "gradient 'reversible' with inner.momentum 0: a step without momentum forgets "
                "where it came from, so set inner.momentum above 0 (0.9, say), or "
                "gradient=checkpointed"
            )
        as_fraction(optimizer.momentum)

    def run(
        self, loop: InnerLoop, objective: InnerObjective, init: Float[Tensor, "B P"]
    ) -> tuple[Trajectory, Callable[[], Iterator[Segment]]]:
        """Run in integers; the segments are single steps, each undone when its turn comes."""
        assert isinstance(loop.optimizer, GradientDescent)
        _, slope = objective.at_step(0).gradient(init)
        exact = ExactMomentum.like(loop.optimizer.lr, loop.optimizer.momentum, init, slope)
        trajectory = replace(loop, optimizer=exact).run(objective, init, recorder=WholeBatch())

        def segments() -> Iterator[Segment]:
            state = trajectory.state
            for step in reversed(range(state.steps)):
                moving = (step < trajectory.steps).unsqueeze(-1)
                y = init if step == 0 else exact.before(state).to(init.dtype)
                y = torch.where(moving, y, trajectory.value.detach())
                _, gradient = objective.at_step(step).gradient(y)
                state = exact.undo(state, gradient)
                velocity = (state.velocity.double() * exact.unit).to(init.dtype)
                yield Segment(Iterate(step, y, velocity), 1)
            start = exact.init(init)
            if not (torch.equal(state.position, start.position) and not state.velocity.any()):
                raise RuntimeError(
                    "gradient 'reversible': the reversal did not arrive at the start, so the "
                    "objective gives different gradients at the same point: make it "
                    "deterministic, or set gradient=checkpointed"
                )

        return trajectory, segments
