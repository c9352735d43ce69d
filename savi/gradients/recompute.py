"""Backends that run the loop without a graph and recompute its steps in the backward.

The adjoint recursion over the steps y_{k+1}, s_{k+1} = step(y_k, s_k; θ), with s the optimiser's
state, is the same for all of them: (a_y, a_s) ← ∂step/∂(y, s)ᵀ (a_y, a_s) from the last step to the
first, while ∂step/∂θᵀ (a_y, a_s) adds up. They differ in how they come back to (y_k, s_k), and in
how they pull a cotangent through a step.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from savi.gradients.base import GradientBackend, derivative_of_steps, refuse_second_derivative
from savi.implicit.captured import Replaced, captured_tensors
from savi.inner.history import Decision, Iterate
from savi.inner.loop import InnerLoop
from savi.inner.objective import InnerObjective
from savi.inner.precision import full_precision
from savi.inner.solution import Solution
from savi.linear.base import norm
from savi.types import Counts, Rows

#: Repeated steps may differ by so many units of rounding, which curvature has magnified.
ROUNDING = 1000.0


class Segment(NamedTuple):
    """``length`` steps from an iterate, and the decisions of all steps if they were kept."""

    start: Iterate
    length: int
    decisions: Sequence[Decision] = ()


@dataclass(frozen=True)
class Run:
    """A run of the loop from λ0 = ``init`` to λK = ``value``, with what its backward needs.

    ``segments`` cuts it into pieces, from its end to its start; ``captured`` are the tensors that
    the objective uses and that need a gradient.
    """

    loop: InnerLoop
    objective: InnerObjective
    init: Rows
    value: Rows
    steps: Counts
    segments: Callable[[], Iterator[Segment]]
    captured: list[Tensor]


class RecomputingBackend(GradientBackend):
    """A backend whose backward recomputes; subclasses say how to come back to the iterates."""

    #: True for a backend that makes sure to the last bit that its steps are those of the run.
    exact: ClassVar[bool] = False
    refuses_compile: ClassVar[str] = (
        "the backward repeats inner steps and looks at each of their operations"
    )
    refuses_trust: ClassVar[str] = "the backward repeats the judgement of every step"

    @abstractmethod
    def run(
        self, loop: InnerLoop, objective: InnerObjective, init: Rows
    ) -> tuple[Solution, Callable[[], Iterator[Segment]]]:
        """Run the loop without a graph; the second result cuts the run into segments, backwards."""

    def pull_back(self, run: Run, segment: Segment, adjoint: Adjoint) -> Rows:
        """Move ``adjoint`` from the end of a segment to its start, by autograd through its steps.

        Returns:
            The iterate at the segment's end, as it was recomputed.
        """
        step, y, state = segment.start
        leaves, spec = tree_flatten(state)
        inputs = [leaf(y), *map(leaf, leaves), *map(leaf, run.captured)]
        own, captured = inputs[: 1 + len(leaves)], inputs[1 + len(leaves) :]
        with Replaced(run.captured, captured, tensors(own)) as replaced:
            y, state = run.loop.replay(
                run.objective,
                Iterate(step, own[0], tree_unflatten(own[1:], spec)),
                segment.length,
                run.steps,
                create_graph=True,
                decisions=segment.decisions,
            )
        replaced.refuse_hidden_tensors(self.name, (y, *tensors(state)))
        adjoint.pull((y, state), own, [], captured)
        return y.detach()

    def solve(
        self, loop: InnerLoop, objective: InnerObjective, init: Rows, differentiable: bool
    ) -> Solution:
        """Run the loop without a graph; attach λK to the tensors that it depends on."""
        if not differentiable:
            return loop.run(objective, init)
        solution, segments = self.run(loop, objective, init.detach())
        value, steps = solution.value, solution.steps
        captured = captured_in_a_step(self.name, loop, objective, init, value)
        run = Run(loop, objective, init.detach(), value, steps, segments, captured)
        # Even if nothing is known to need it: the backward finds what was hidden.
        start = init if init.requires_grad or captured else init.detach().requires_grad_()
        solution = replace(solution, value=Recomputed.apply(self, run, start, *captured))
        return derivative_of_steps(loop, solution)


def sweep(backend: RecomputingBackend, run: Run, v: Rows) -> list[Tensor | None]:
    """The cotangents of λ0 and of every captured tensor, for the cotangent v of λK."""
    adjoint, reached = Adjoint(v, len(run.captured)), run.value
    with torch.enable_grad(), full_precision(v.device.type):
        for segment in run.segments():
            recomputed = backend.pull_back(run, segment, adjoint)
            if not backend.exact:
                require_same(backend.name, recomputed, reached, segment.start.y)
            reached = segment.start.y
    return [adjoint.y, *adjoint.captured]


class Recomputed(torch.autograd.Function):
    """λK as a function of λ0 and the captured tensors, whose backward is :func:`sweep`."""

    @staticmethod
    def forward(backend: RecomputingBackend, run: Run, init: Tensor, *captured: Tensor) -> Tensor:
        """λK itself."""
        return run.value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep the run; the tensors are kept by autograd, which watches for changes in place."""
        ctx.backend, ctx.run = inputs[:2]
        ctx.save_for_backward(*inputs[2:])

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:
        """The sweep."""
        cotangents = tuple(sweep(ctx.backend, ctx.run, v.detach()))
        links = (v, *ctx.saved_tensors)
        return None, None, *refuse_second_derivative(ctx.backend.name, cotangents, links)


def captured_in_a_step(
    backend: str, loop: InnerLoop, objective: InnerObjective, init: Rows, value: Rows
) -> list[Tensor]:
    """What inner steps use besides λ and needs a gradient.

    Found by a step from λ0, and by a gradient at λK for what an objective uses only there; a
    gradient with all of it replaced shows whether anything is hidden.

    Raises:
        InputError: if the objective hides a tensor.
    """
    start, end = (y.detach().requires_grad_() for y in (init, value))
    every = torch.ones(len(start), dtype=torch.long, device=start.device)

    def step() -> None:
        first = Iterate(0, start, loop.optimizer.init(start))
        loop.replay(objective, first, 1, every, create_graph=True)
        objective.gradient(end, create_graph=True)

    captured = captured_tensors(step, own=(start, end))
    replacements = [leaf(tensor) for tensor in captured]
    with Replaced(captured, replacements, (start,)) as replaced:
        _, gradient = objective.gradient(start, create_graph=True)
    replaced.refuse_hidden_tensors(backend, (gradient,))
    return captured


def require_same(backend: str, recomputed: Rows, reached: Rows, start: Rows) -> None:
    """Refuse to differentiate steps other than those that were taken.

    Raises:
        RuntimeError: where the ends of the first and of the repeated steps differ by more than
            rounding explains.
    """
    rounding = ROUNDING * torch.finfo(reached.dtype).eps * (norm(start) + norm(reached))
    allowed = 1e-3 * norm(reached - start) + rounding
    # Where an example is not finite, or not finite at its start, it took no step.
    same = (norm(recomputed - reached) <= allowed) | ~torch.isfinite(norm(reached))
    if not bool(same.all()):
        raise RuntimeError(
            f"gradient backend '{backend}': inner steps that were repeated for the backward ended "
            "elsewhere, so the objective has changed since the solve (weights or buffers updated "
            "in between) or is not deterministic: change nothing in between, or take "
            "'unrolled'"
        )


class Adjoint:
    """The cotangents of λ, of the optimiser's state, and of the captured tensors (which add up)."""

    def __init__(self, y: Rows, captured: int) -> None:
        self.y = y
        self.state: list[Tensor] | None = None
        self.captured: list[Tensor | None] = [None] * captured

    def add(self, gradients: list[Tensor | None]) -> None:
        """Add to the cotangents of the captured tensors."""
        for i, gradient in enumerate(gradients):
            if gradient is not None:
                total = self.captured[i]
                self.captured[i] = gradient if total is None else total + gradient

    def pull(
        self,
        outputs: tuple[Tensor, Any],
        own: list[Any],
        others: list[Tensor],
        captured: list[Tensor],
    ) -> list[Tensor | None]:
        """Move from the outputs (y, state) of a segment to its inputs.

        Args:
            outputs: y and the state at the segment's end, with their graph.
            own: y and the state's leaves at its start.
            others: other inputs, whose cotangents are returned.
            captured: the replacements of the captured tensors.
        """
        y, state = outputs
        ends = [y, *tensors(state)]
        cotangents = [self.y, *(self.state or [torch.zeros_like(t) for t in ends[1:]])]
        pairs = [(e, c) for e, c in zip(ends, cotangents, strict=True) if e.requires_grad]
        starts = tensors(own)
        wanted = [t for t in (*starts, *others, *captured) if t.requires_grad]
        found: dict[int, Tensor | None] = {}
        if pairs:
            gradients = torch.autograd.grad(
                [e for e, _ in pairs], wanted, [c for _, c in pairs], allow_unused=True
            )
            found = dict(zip(map(id, wanted), gradients, strict=True))
        self.y, *self.state = [
            torch.zeros_like(t) if (g := found.get(id(t))) is None else g for t in starts
        ]
        self.add([found.get(id(t)) for t in captured])
        return [found.get(id(t)) for t in others]


def leaf(value: Any) -> Any:
    """A new leaf with the numbers of a floating-point tensor; anything else as it is."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.detach().requires_grad_()
    return value


def tensors(state: Any) -> list[Tensor]:
    """The tensors of an optimiser's state."""
    return [part for part in tree_leaves(state) if isinstance(part, Tensor)]
