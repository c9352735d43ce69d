"""Backpropagation through every inner step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from savi.gradients.base import BACKENDS, GradientBackend, derivative_of_steps
from savi.inner.loop import InnerLoop
from savi.inner.objective import InnerObjective
from savi.inner.solution import Solution
from savi.types import Rows


@BACKENDS.register("unrolled")
@dataclass(frozen=True)
class Unrolled(GradientBackend):
    """The exact derivative of the K steps that were taken (Kim et al. 2018, arXiv 1802.02550).

    On a quadratic with Hessian H and gradient steps of size α, ∂λK/∂λ0 = (I − αH)^K, which
    vanishes as K grows: what the encoder learns through a converged solve is nothing.
    """

    name: ClassVar[str] = "unrolled"
    second_derivatives: ClassVar[str] = "right"
    forward_mode: ClassVar[bool] = True

    def solve(
        self, loop: InnerLoop, objective: InnerObjective, init: Rows, differentiable: bool
    ) -> Solution:
        """Run the loop with its graph kept."""
        if not differentiable:
            return loop.run(objective, init)
        shared = objective.for_one_backward()
        solution = loop.run(shared, init, create_graph=True, through_steps=True)
        return derivative_of_steps(loop, solution)
