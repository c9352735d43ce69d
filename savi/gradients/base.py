"""What a gradient backend is: a way to differentiate the one inner loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from enum import Enum
from typing import Any, ClassVar

import torch
from torch import Tensor

from savi.errors import CombinationError
from savi.implicit.reporter import Finding, say
from savi.inner.loop import InnerLoop
from savi.inner.objective import (
    COMPILE,
    CONSTRAINT,
    FRESH_NOISE,
    TRUST,
    InnerObjective,
    Traits,
    Words,
    refuse,
)
from savi.inner.optimizers.base import OPTIMIZERS, InnerOptimizer
from savi.inner.solution import Reason, Solution
from savi.registry import Registry
from savi.settings import Checked
from savi.types import Rows


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
        forward_mode: whether tangents of forward-mode differentiation pass rightly.
        refuses_optimizers: why it refuses the inner optimisers that it does not differentiate.
        refuses_fresh_noise: why it refuses an objective that is redrawn at every step, if it does.
        refuses_constraints: why it refuses a constrained objective, if it does.
        refuses_compile: why it refuses compiled inner steps, if it does.
        refuses_trust: why it refuses a last step that is not judged, if it does.
    """

    name: ClassVar[str]
    encoder_gradient: ClassVar[EncoderGradient] = EncoderGradient.EXACT
    memory: ClassVar[str] = "O(K)"
    second_derivatives: ClassVar[str] = "refused"
    forward_mode: ClassVar[bool] = False
    refuses_optimizers: ClassVar[str] = ""
    refuses_fresh_noise: ClassVar[str] = ""
    refuses_constraints: ClassVar[str] = ""
    refuses_compile: ClassVar[str] = ""
    refuses_trust: ClassVar[str] = ""

    def encoder_gradient_for(self, anchored: bool, max_steps: int) -> EncoderGradient:
        """What flows to λ0 in a given problem.

        ``anchored`` says that the objective itself depends on λ0 (proximal, trust_region).
        """
        return self.encoder_gradient

    def check(
        self,
        optimizer: InnerOptimizer,
        problem: Traits,
        *,
        compiled: bool = False,
        trusting: bool = False,
    ) -> None:
        """Refuse what the backend cannot differentiate, before any work is done.

        Raises:
            InputError: for what it cannot, with the reason.
        """
        self.check_optimizer(optimizer)
        refuse(
            self.words,
            Words("gradient=Unrolled()", "gradient=unrolled"),
            (FRESH_NOISE, problem.stochastic, self.refuses_fresh_noise),
            (CONSTRAINT, problem.constrained, self.refuses_constraints),
            (COMPILE, compiled, self.refuses_compile),
            (TRUST, trusting, self.refuses_trust),
        )

    def check_optimizer(self, optimizer: InnerOptimizer) -> None:
        """Refuse an inner optimiser that the backend cannot differentiate.

        Raises:
            InputError: if it cannot, with the reason and the ones that it can.
        """
        if not self.differentiates(type(optimizer)):
            owner, chosen, reason = self.words, optimizer.words, self.refuses_optimizers
            known = {name: kind for name, kind in OPTIMIZERS.items() if self.differentiates(kind)}
            classes = " or ".join(f"{kind.__name__}()" for kind in known.values())
            raise CombinationError(
                f"{owner.call} with {chosen.call}: {reason}, so give optimizer={classes}, or "
                "gradient=Unrolled()",
                in_config=f"{owner.config} with {chosen.config}: {reason}, so set inner.optimizer "
                f"to {' or '.join(known)}, or gradient=unrolled",
            )

    @classmethod
    def differentiates(cls, optimizer: type[InnerOptimizer]) -> bool:
        """Whether it differentiates the steps of an inner optimiser; by default those of all."""
        return True

    @property
    def words(self) -> Words:
        """What the backend is called in a refusal."""
        return Words(type(self).__name__, f"gradient '{self.name}'")

    @abstractmethod
    def solve(
        self, loop: InnerLoop, objective: InnerObjective, init: Rows, differentiable: bool
    ) -> Solution:
        """Run ``loop`` on ``objective`` from ``init``; both have passed :meth:`check`.

        ``differentiable`` is False in evaluation, where no backend builds a graph.

        Raises:
            InputError: if the objective breaks an assumption of the backend.
        """


BACKENDS: Registry[type[GradientBackend]] = Registry("gradient", base=GradientBackend)


def derivative_of_steps(loop: InnerLoop, solution: Solution) -> Solution:
    """The solution of a backend that differentiates steps, where some examples have taken none.

    An example that starts at its solution takes steps all the same, for their derivative
    (``through_steps`` of the loop), unless those of its optimiser have none there: this is said.
    A solution without any graph is made a leaf: a backward finds nothing instead of failing.
    """
    resting = (solution.steps == 0) & (solution.reason == Reason.SMALL_GRADIENT)
    if loop.optimizer.divides and (count := int(resting.sum())):
        kind = (
            f"they start at their solution, where steps of {type(loop.optimizer).__name__} have no "
            "derivative (start elsewhere, or take another optimiser or gradient 'ift')"
        )
        say("no gradient but the start's", [Finding(kind, count, len(resting))])
    value = solution.value
    return (
        solution
        if value.requires_grad
        else replace(solution, value=value.detach().requires_grad_())
    )


def refuse_second_derivative(
    backend: str, cotangents: tuple[Tensor | None, ...], links: tuple[Tensor, ...]
) -> tuple[Tensor | None, ...]:
    """What a custom backward returns when it cannot itself be differentiated.

    ``once_differentiable`` would not do: its refusal hangs on a leaf of its own, which
    ``autograd.grad(..., inputs)`` never visits, and the cotangents would pass for constants. Here
    they are linked to everything that they depend on, by a node that raises.
    """
    if not torch.is_grad_enabled():
        return cotangents
    return tuple(
        None if cotangent is None else _Refusal.apply(backend, cotangent, *links)
        for cotangent in cotangents
    )


def once_differentiable(backend: str, value: Rows, graph: Rows) -> Rows:
    """The numbers of ``value`` with the gradient of ``graph``, whose own derivative is refused.

    For a graph that leaves out a part of what ``value`` depends on, on purpose: its first
    derivative is what the backend declares, its second one would be neither that nor the truth.
    """
    return _OnceDifferentiable.apply(backend, value.detach(), graph)


class _Refusal(torch.autograd.Function):
    """The identity on a cotangent; its backward raises."""

    @staticmethod
    def forward(backend: str, cotangent: Tensor, *links: Tensor) -> Tensor:
        return cotangent.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep the name alone."""
        ctx.backend = inputs[0]

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> None:
        raise RuntimeError(
            f"gradient backend '{ctx.backend}' has no second derivative: take 'unrolled', or do "
            "not differentiate its gradient again"
        )


class _OnceDifferentiable(torch.autograd.Function):
    """λK, whose cotangent goes to ``graph``."""

    @staticmethod
    def forward(backend: str, value: Tensor, graph: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep the graph, which leads to all that the gradient depends on."""
        ctx.backend, _, graph = inputs
        ctx.save_for_backward(graph)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[None, None, Tensor | None]:
        """The cotangent itself."""
        (cotangent,) = refuse_second_derivative(ctx.backend, (v,), (v, *ctx.saved_tensors))
        return None, None, cotangent
