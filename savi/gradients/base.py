"""What a gradient backend is: a way to differentiate the one inner loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from savi.inner.loop import InnerLoop
from savi.inner.objective import InnerObjective
from savi.inner.solution import Solution
from savi.registry import Registry

BACKENDS: Registry[type[GradientBackend]] = Registry("gradient")


class EncoderGradient(Enum):
    """What of ∂λK/∂λ0 a backend sends to the encoder."""

    EXACT = "exact"
    TRUNCATED = "truncated"
    ZERO = "zero"


class GradientBackend(ABC):
    """Runs the inner loop and returns its result with a derivative.

    Attributes:
        name: the name in configs.
        encoder_gradient: what flows to λ0 when the objective does not itself depend on λ0.
        memory: the order of the activation memory in the number of steps K.
        second_derivatives: "right" (exact) or "refused" (a double backward raises).
    """

    name: ClassVar[str]
    encoder_gradient: ClassVar[EncoderGradient]
    memory: ClassVar[str]
    second_derivatives: ClassVar[str]

    def encoder_gradient_for(self, anchored: bool) -> EncoderGradient:
        """What flows to λ0 through an objective that is ``anchored`` at λ0 (proximal) or not."""
        return self.encoder_gradient

    def check_noise(self, stochastic: bool) -> None:  # noqa: B027  (most allow both)
        """Refuse an objective that the backend cannot differentiate, before any work is done.

        Args:
            stochastic: whether the objective is redrawn at every step.

        Raises:
            InputError: if the backend needs a deterministic problem and this is none.
        """

    @abstractmethod
    def solve(
        self,
        loop: InnerLoop,
        objective: InnerObjective,
        init: Float[Tensor, "B P"],
        differentiable: bool,
    ) -> Solution:
        """Run ``loop`` on ``objective`` from ``init``.

        Args:
            loop: the inner loop, which knows the optimiser and the stopping rule.
            objective: the inner objective.
            init: λ0.
            differentiable: False in evaluation, where no backend builds a graph.

        Raises:
            InputError: if the objective breaks an assumption of the backend.
        """
