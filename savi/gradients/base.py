"""What a gradient backend is: a way to differentiate the one inner loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from savi.errors import InputError
from savi.inner.loop import InnerLoop
from savi.inner.objective import COMPILE, FRESH_NOISE, TRUST_REGION, InnerObjective
from savi.inner.optimizers.base import InnerOptimizer
from savi.inner.solution import Solution
from savi.registry import Registry


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
        refuses_fresh_noise: why it refuses an objective that is redrawn at every step, if it does.
        refuses_constraints: why it refuses a constrained objective, if it does.
        refuses_compile: why it refuses compiled inner steps, if it does.
    """

    name: ClassVar[str]
    encoder_gradient: ClassVar[EncoderGradient] = EncoderGradient.EXACT
    memory: ClassVar[str] = "O(K)"
    second_derivatives: ClassVar[str] = "refused"
    optimizers: ClassVar[tuple[str, ...] | None] = None
    refuses_fresh_noise: ClassVar[str] = ""
    refuses_constraints: ClassVar[str] = ""
    refuses_compile: ClassVar[str] = ""

    def encoder_gradient_for(self, anchored: bool, max_steps: int) -> EncoderGradient:
        """What flows to λ0 in a given problem.

        Args:
            anchored: whether the objective itself depends on λ0 (proximal, trust_region).
            max_steps: K.
        """
        return self.encoder_gradient

    def check(
        self, optimizer: InnerOptimizer, *, stochastic: bool, constrained: bool, compiled: bool
    ) -> None:
        """Refuse what the backend cannot differentiate, before any work is done.

        Args:
            optimizer: the inner optimiser.
            stochastic: whether the objective is redrawn at every step.
            constrained: whether it is constrained.
            compiled: whether the inner steps are compiled.

        Raises:
            InputError: for what it cannot, with the reason.
        """
        self.check_optimizer(optimizer)
        for choice, made, reason in (
            (FRESH_NOISE, stochastic, self.refuses_fresh_noise),
            (TRUST_REGION, constrained, self.refuses_constraints),
            (COMPILE, compiled, self.refuses_compile),
        ):
            choice.refuse(
                f"gradient '{self.name}'", made=made, reason=reason, otherwise="gradient=unrolled"
            )

    def check_optimizer(self, optimizer: InnerOptimizer) -> None:  # noqa: B027  (most take all)
        """Refuse an inner optimiser that the backend cannot differentiate.

        Raises:
            InputError: if it cannot, with the reason.
        """

    def refusal(self, optimizer: InnerOptimizer, reason: str) -> InputError:
        """The error of :meth:`check_optimizer`."""
        return InputError(
            f"gradient '{self.name}' with inner.optimizer '{optimizer.name}': {reason}, so set "
            f"inner.optimizer to {' or '.join(self.optimizers or ())}, or gradient=unrolled"
        )

    @abstractmethod
    def solve(
        self,
        loop: InnerLoop,
        objective: InnerObjective,
        init: Float[Tensor, "B P"],
        differentiable: bool,
    ) -> Solution:
        """Run ``loop`` on ``objective`` from ``init``; both have passed :meth:`check`.

        Args:
            loop: the inner loop, which knows the optimiser and the stopping rule.
            objective: the inner objective.
            init: λ0.
            differentiable: False in evaluation, where no backend builds a graph.

        Raises:
            InputError: if the objective breaks an assumption of the backend.
        """


BACKENDS: Registry[type[GradientBackend]] = Registry("gradient", base=GradientBackend)
