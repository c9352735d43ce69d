"""What a gradient backend is: a way to differentiate the one inner loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from savi.errors import InputError
from savi.inner.loop import InnerLoop
from savi.inner.objective import InnerObjective
from savi.inner.optimizers.base import InnerOptimizer
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
        optimizers: the names of the inner optimisers that it can differentiate; None: every one.
    """

    name: ClassVar[str]
    encoder_gradient: ClassVar[EncoderGradient]
    memory: ClassVar[str]
    second_derivatives: ClassVar[str]
    optimizers: ClassVar[tuple[str, ...] | None] = None

    def encoder_gradient_for(self, anchored: bool, max_steps: int) -> EncoderGradient:
        """What flows to λ0 in a given problem.

        Args:
            anchored: whether the objective itself depends on λ0 (proximal, trust_region).
            max_steps: K.
        """
        return self.encoder_gradient

    def check_optimizer(self, optimizer: InnerOptimizer) -> None:  # noqa: B027
        """Refuse an inner optimiser that the backend cannot differentiate.

        Raises:
            InputError: if it cannot, with the reason.
        """

    def refusal(self, optimizer: InnerOptimizer, reason: str) -> InputError:
        """The error of :meth:`check_optimizer`."""
        return InputError(
            f"gradient '{self.name}' with inner.optimizer '{optimizer.name}': {reason}, so set "
            f"inner.optimizer to one of {', '.join(self.optimizers or ())}, or gradient=unrolled"
        )

    def check_compile(self, compile: bool) -> None:  # noqa: B027  (most allow it)
        """Refuse a compiled inner step where the backend needs every operation for itself.

        Raises:
            InputError: if it does.
        """

    def check_constraint(self, constrained: bool) -> None:  # noqa: B027
        """Refuse a constrained objective that the backend cannot differentiate.

        Raises:
            InputError: if it cannot.
        """

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
