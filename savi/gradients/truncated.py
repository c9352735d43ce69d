"""Backpropagation through the last inner steps only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from savi.gradients.base import BACKENDS, EncoderGradient, GradientBackend
from savi.gradients.recompute import require_same
from savi.gradients.second_derivative import once_differentiable
from savi.inner.history import Iterate, LastSteps
from savi.inner.loop import InnerLoop
from savi.inner.objective import InnerObjective
from savi.inner.solution import Solution
from savi.settings import setting


@BACKENDS.register("truncated")
@dataclass(frozen=True)
class Truncated(GradientBackend):
    """The derivative of each example's last T steps (Shaban et al. 2019, arXiv 1810.10667).

    On a quadratic with Hessian H and gradient steps of size α it is Σ_{j<T} (I − αH)ʲ α ∂F/∂θ, off
    by a factor of (I − αH)ᵀ: the bias falls geometrically in T. What happened before is a constant,
    so that λ0 receives a gradient only from examples that took at most T steps, or through an
    objective that depends on λ0 itself.

    Args:
        steps: T.

    Raises:
        InputError: if T is no whole number above 0.
    """

    steps: int = setting(5, at_least=1)
    name: ClassVar[str] = "truncated"
    encoder_gradient: ClassVar[EncoderGradient] = EncoderGradient.TRUNCATED
    memory: ClassVar[str] = "O(T)"
    second_derivatives: ClassVar[str] = "refused"
    refuses_fresh_noise: ClassVar[str] = (
        "the last steps of examples that stop at different times are repeated together"
    )

    def encoder_gradient_for(self, anchored: bool, max_steps: int) -> EncoderGradient:
        """Exact if no step is left out; else only what an ``anchored`` objective sends."""
        if self.steps >= max_steps:
            return EncoderGradient.EXACT
        return EncoderGradient.TRUNCATED if anchored else EncoderGradient.ZERO

    def solve(
        self,
        loop: InnerLoop,
        objective: InnerObjective,
        init: Float[Tensor, "B P"],
        differentiable: bool,
    ) -> Solution:
        """Run the loop without a graph, then repeat the last T steps with one."""
        recorder = LastSteps(self.steps)
        trajectory = loop.run(objective, init.detach(), recorder=recorder)
        if not differentiable or not recorder.iterates:
            value = trajectory.value if not differentiable else init
            return trajectory.solution(value)
        oldest = recorder.iterates[0]
        whole = trajectory.steps <= self.steps
        start = torch.where(whole.unsqueeze(-1), init, oldest.y)
        graph, _ = loop.replay(
            objective,
            Iterate(0, start, oldest.state),
            len(recorder.iterates),
            trajectory.steps.clamp_max(self.steps),
            create_graph=True,
        )
        require_same(self.name, graph.detach(), trajectory.value.detach(), start.detach())
        value = once_differentiable(self.name, trajectory.value, graph)
        return trajectory.solution(value)
