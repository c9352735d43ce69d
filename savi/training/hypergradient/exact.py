"""The exact solution of an inner problem, with right derivatives of every order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from savi.gradients.base import EncoderGradient, GradientBackend
from savi.implicit.root import root
from savi.inner.loop import InnerLoop
from savi.inner.objective import InnerObjective
from savi.inner.solution import Solution


@dataclass(frozen=True)
class ExactSolution(GradientBackend):
    """λ* with ∇J(λ*) = 0, attached to the graph by :func:`savi.implicit.root`.

    A hypergradient differentiates the gradient of the training loss, and so λ* twice, which the
    backend ``ift`` refuses. Here P×P Jacobians are formed with their graphs: for a few examples at
    a time, not for training.

    Args:
        on_failure: what is done about examples that break a condition of the theorem.
    """

    on_failure: str = "warn"
    name: ClassVar[str] = "root"
    encoder_gradient: ClassVar[EncoderGradient] = EncoderGradient.ZERO
    memory: ClassVar[str] = "O(1)"
    second_derivatives: ClassVar[str] = "right"
    refuses_fresh_noise: ClassVar[str] = (
        "an objective that is redrawn at every step has no stationary point"
    )
    refuses_constraints: ClassVar[str] = "its solution may lie on the constraint"

    def solve(
        self,
        loop: InnerLoop,
        objective: InnerObjective,
        init: Float[Tensor, "B P"],
        differentiable: bool,
    ) -> Solution:
        """Run the loop without a graph, then attach the theorem."""
        solution = loop.run(objective, init)
        if not differentiable:
            return solution

        def gradient(y: Float[Tensor, "B P"]) -> Float[Tensor, "B P"]:
            return objective.gradient(y, create_graph=True)[1]

        exact = root(gradient, solution.value, on_failure=self.on_failure)
        return replace(solution, value=exact.value)
