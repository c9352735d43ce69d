"""The derivative of one step at the solution."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from savi.gradients.base import BACKENDS, EncoderGradient, GradientBackend, once_differentiable
from savi.inner.loop import InnerLoop
from savi.inner.objective import InnerObjective
from savi.inner.optimizers.base import InnerOptimizer, Point
from savi.inner.solution import Solution
from savi.types import Rows


@BACKENDS.register("one_step")
@dataclass(frozen=True)
class OneStep(GradientBackend):
    """dλ*/dθ ≈ ∂T(λK; θ)/∂θ with T a step of the inner optimiser (Bolte et al. 2023).

    λ* is a fixed point of T, dλ*/dθ = (I − ∂T/∂λ)⁻¹ ∂T/∂θ; the inverse is left out. The relative
    error is the contraction factor ‖∂T/∂λ‖: ‖I − αH‖ for gradient steps, close to 1 where H is
    ill-conditioned; of the order of ‖F(λK)‖ for Newton steps with the exact Hessian, ‖I − C⁻¹H‖
    with a Gauss–Newton matrix C. For these the full step y − C⁻¹F is differentiated, without
    damping or acceptance.

    arXiv 2305.13768. λ0 receives a gradient only through an objective that depends on it.
    """

    name: ClassVar[str] = "one_step"
    encoder_gradient: ClassVar[EncoderGradient] = EncoderGradient.ZERO
    memory: ClassVar[str] = "O(1)"
    refuses_fresh_noise: ClassVar[str] = (
        "an objective that is redrawn at every step has no fixed point"
    )
    refuses_optimizers: ClassVar[str] = "its step is no function of λ alone"

    def encoder_gradient_for(self, anchored: bool, max_steps: int) -> EncoderGradient:
        """Some of it through the anchor of a proximal problem, none otherwise."""
        return EncoderGradient.TRUNCATED if anchored else EncoderGradient.ZERO

    @classmethod
    def differentiates(cls, optimizer: type[InnerOptimizer]) -> bool:
        """Those whose step is a map of λ alone."""
        return optimizer.has_fixed_point

    def solve(
        self, loop: InnerLoop, objective: InnerObjective, init: Rows, differentiable: bool
    ) -> Solution:
        """Run the loop without a graph, then attach one step from λK, whose value is left out."""
        solution = loop.run(objective, init)
        if not differentiable:
            return solution
        y = solution.value
        point = Point(y, *objective.gradient(y.clone(), create_graph=True))
        step = loop.optimizer.fixed_point(objective, point)
        if not step.requires_grad:
            return solution
        return replace(solution, value=once_differentiable(self.name, y, step))
