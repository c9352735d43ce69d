"""Backpropagation through the last inner steps only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from savi.gradients.base import (
    BACKENDS,
    EncoderGradient,
    GradientBackend,
    derivative_of_steps,
    once_differentiable,
)
from savi.gradients.recompute import require_same
from savi.inner.history import Iterate, LastSteps
from savi.inner.loop import InnerLoop
from savi.inner.objective import InnerObjective
from savi.inner.solution import Solution
from savi.settings import setting
from savi.types import Rows


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
    """

    steps: int = setting(5, at_least=1)
    name: ClassVar[str] = "truncated"
    encoder_gradient: ClassVar[EncoderGradient] = EncoderGradient.TRUNCATED
    memory: ClassVar[str] = "O(T)"
    refuses_fresh_noise: ClassVar[str] = (
        "the last steps of examples that stop at different times are repeated together"
    )
    refuses_trust: ClassVar[str] = "the last steps are repeated with their judgements"

    def encoder_gradient_for(self, anchored: bool, max_steps: int) -> EncoderGradient:
        """Exact if no step is left out; else only what an ``anchored`` objective sends."""
        if self.steps >= max_steps:
            return EncoderGradient.EXACT
        return EncoderGradient.TRUNCATED if anchored else EncoderGradient.ZERO

    def solve(
        self, loop: InnerLoop, objective: InnerObjective, init: Rows, differentiable: bool
    ) -> Solution:
        """Run the loop without a graph, then repeat the last T steps with one."""
        recorder = LastSteps(self.steps)
        solution = loop.run(objective, init, recorder=recorder, through_steps=differentiable)
        if not differentiable:
            return solution
        if not recorder.iterates:
            return derivative_of_steps(loop, replace(solution, value=init))
        oldest = recorder.iterates[0]
        whole = solution.steps <= self.steps
        start = torch.where(whole.unsqueeze(-1), init, oldest.y)
        graph, _ = loop.replay(
            objective,
            Iterate(0, start, oldest.state),
            len(recorder.iterates),
            solution.steps.clamp_max(self.steps),
            create_graph=True,
        )
        require_same(self.name, graph.detach(), solution.value, start.detach())
        value = once_differentiable(self.name, solution.value, graph)
        return derivative_of_steps(loop, replace(solution, value=value))
