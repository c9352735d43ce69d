"""No gradient through the inner solve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from savi.gradients.base import BACKENDS, EncoderGradient, GradientBackend
from savi.inner.loop import InnerLoop
from savi.inner.objective import InnerObjective
from savi.inner.solution import Solution
from savi.types import Rows


@BACKENDS.register("stop")
@dataclass(frozen=True)
class StopGradient(GradientBackend):
    """λK is a constant: θ receives only the direct gradient of the outer loss.

    Where inner and outer objective agree, the envelope theorem makes the direct gradient exact at
    an exact solution; at a distance ε from it the error is O(ε).
    """

    name: ClassVar[str] = "stop"
    encoder_gradient: ClassVar[EncoderGradient] = EncoderGradient.ZERO
    memory: ClassVar[str] = "O(1)"
    second_derivatives: ClassVar[str] = "right"

    def solve(
        self, loop: InnerLoop, objective: InnerObjective, init: Rows, differentiable: bool
    ) -> Solution:
        """Run the loop without a graph."""
        return loop.run(objective, init)
