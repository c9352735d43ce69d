"""What a gradient backend is: a way to differentiate the one inner loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from savi.errors import CombinationError
from savi.inner.loop import InnerLoop
from savi.inner.objective import COMPILE, CONSTRAINT, FRESH_NOISE, InnerObjective, Words
from savi.inner.optimizers.base import OPTIMIZERS, InnerOptimizer
from savi.inner.solution import Solution
from savi.registry import Registry
from savi.settings import Checked

BACKENDS: Registry[type[GradientBackend]] = Registry("gradient")


class EncoderGradient(Enum):
    """What of ∂λK/∂λ0 a backend sends to the encoder."""

    EXACT = "exact"
    TRUNCATED = "truncated"
    ZERO = "zero"


class GradientBackend(Checked, ABC):
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
    encoder_gradient: ClassVar[EncoderGradient]
    memory: ClassVar[str]
    second_derivatives: ClassVar[str]
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
            (CONSTRAINT, constrained, self.refuses_constraints),
            (COMPILE, compiled, self.refuses_compile),
        ):
            if made:
                choice.refuse(self.words, reason, Words("gradient=Unrolled()", "gradient=unrolled"))

    def check_optimizer(self, optimizer: InnerOptimizer) -> None:
        """Refuse an inner optimiser that the backend cannot differentiate.

        Raises:
            InputError: if it cannot, with the reason.
        """

    def refusal(self, optimizer: InnerOptimizer, reason: str) -> CombinationError:
        """The error of :meth:`check_optimizer`."""
        owner, chosen, names = self.words, optimizer.words, self.optimizers or ()
        classes = " or ".join(f"{OPTIMIZERS[name].__name__}()" for name in names)
        return CombinationError(
            f"{owner.call} with {chosen.call}: {reason}, so give optimizer={classes}, or "
            "gradient=Unrolled()",
            in_config=f"{owner.config} with {chosen.config}: {reason}, so set inner.optimizer to "
            f"{' or '.join(names)}, or gradient=unrolled",
        )

    @property
    def words(self) -> Words:
        """What the backend is called in a refusal."""
        return Words(type(self).__name__, f"gradient '{self.name}'")

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
