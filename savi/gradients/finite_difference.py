"""Backpropagation through every inner step with first derivatives only."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.utils._pytree import tree_flatten, tree_unflatten

from savi.gradients.base import BACKENDS
from savi.gradients.recompute import Adjoint, RecomputingBackend, Run, Segment, leaf
from savi.implicit.captured import Replaced
from savi.inner.history import EveryNth
from savi.inner.loop import InnerLoop
from savi.inner.objective import InnerObjective
from savi.inner.optimizers.base import InnerOptimizer, Point
from savi.inner.solution import Solution
from savi.linear.base import norm
from savi.settings import positive
from savi.types import PerExample, Rows


@BACKENDS.register("finite_difference")
@dataclass(frozen=True)
class FiniteDifference(RecomputingBackend):
    """The backward of Kim et al. (2018, arXiv 1802.02550), with per-example step sizes.

    A gradient g = ∇J(y; θ) pulls a cotangent u back to Hu and (∂g/∂θ)ᵀu, the derivatives in y and
    θ of uᵀ∇J. Both come from two first derivatives of J, along û = u/‖u‖:

        Hu ≈ ‖u‖ [∇J(y + hû) − ∇J(y − hû)] / 2h
        (∂g/∂θ)ᵀu ≈ ‖u‖ ∂/∂θ [J(y + hû) − J(y − hû)] / 2h

    with an error of O(h² + ε/h) ‖u‖. With t = ‖λK − λ0‖, the scale on which an example's own
    problem is seen to vary, h = δ t max(1, ‖y‖/t)^⅓ balances the two: neither the size of u, nor
    the unit of λ, nor the batch changes it. An optimiser that divides by gradients sends cotangents
    of any size: u is then taken apart by magnitude (:func:`magnitudes`), and each part has
    differences of its own. No second derivative of the decoder is needed, so that operations
    without one (fused attention) can be used.

    Args:
        relative_step: δ; None for the cube root of the float type's ε, 6e-6 or 5e-3.
    """

    relative_step: float | None = positive(None)
    name: ClassVar[str] = "finite_difference"
    memory: ClassVar[str] = "O(1)"
    refuses_optimizers: ClassVar[str] = "its steps use second derivatives of the objective"

    @classmethod
    def differentiates(cls, optimizer: type[InnerOptimizer]) -> bool:
        """Those that use no curvature."""
        return optimizer.first_order

    def run(
        self, loop: InnerLoop, objective: InnerObjective, init: Rows
    ) -> tuple[Solution, Callable[[], Iterator[Segment]]]:
        """Keep every iterate."""
        recorder = EveryNth(1)
        solution = loop.run(objective, init, recorder=recorder, through_steps=True)
        return solution, lambda: (Segment(it, 1) for it in reversed(recorder.iterates))

    def pull_back(self, run: Run, segment: Segment, adjoint: Adjoint) -> Rows:
        """The step by autograd as a function of its gradient; the gradient by differences."""
        step, y, state = segment.start
        problem = run.objective.at_step(step)
        value, gradient = problem.gradient(y)
        leaves, spec = tree_flatten(state)
        own = [leaf(y), *map(leaf, leaves)]
        g, captured = leaf(gradient), [leaf(tensor) for tensor in run.captured]
        with Replaced(run.captured, captured):
            point, state = Point(own[0], value, g), tree_unflatten(own[1:], spec)
            y_next, state = run.loop.take(
                run.objective, step, point, state, step < run.steps, create_graph=True
            )
        (u,) = adjoint.pull((y_next, state), own, [g], captured)
        if u is not None:
            for part in magnitudes(u) if run.loop.optimizer.divides else [u]:
                adjoint.y = adjoint.y + self._through_gradient(problem, y, part, run, adjoint)
        return y_next.detach()

    def _through_gradient(
        self, problem: InnerObjective, y: Rows, u: Rows, run: Run, adjoint: Adjoint
    ) -> Rows:
        """Hu; what (∂g/∂θ)ᵀu sends to the captured tensors is added to ``adjoint``."""
        size = norm(u)
        # Of the examples that have one: another's NaN must not reach their gradients.
        largest = size[torch.isfinite(size)].max() if torch.isfinite(size).any() else size.sum()
        # NaN is not 0: it goes on.
        direction = torch.where(size == 0, 0.0, u.mT / size).mT
        h = self._step_size(run, y)
        # Cotangents of 1e-30 would be lost in float32: the largest is taken out and put back.
        weight = torch.where(size == 0, 0.0, size / largest) / (2.0 * h)
        ends = [leaf(y + sign * h.unsqueeze(-1) * direction) for sign in (1.0, -1.0)]
        captured = [leaf(tensor) for tensor in run.captured]
        with Replaced(run.captured, captured, ends) as replaced:
            values = [(weight * problem(end)).sum() for end in ends]
        replaced.refuse_hidden_tensors(self.name, values)
        if not any(value.requires_grad for value in values):
            return torch.zeros_like(u)
        # One by one: what the two have in common then cancels to the last bit.
        (at_plus, *plus), (at_minus, *minus) = (
            torch.autograd.grad(value, (end, *captured), retain_graph=True, allow_unused=True)
            for value, end in zip(values, ends, strict=True)
        )
        pairs = zip(plus, minus, strict=True)
        adjoint.add([None if p is None or m is None else largest * (p - m) for p, m in pairs])
        return torch.zeros_like(u) if at_plus is None else largest * (at_plus - at_minus)

    def _step_size(self, run: Run, y: Rows) -> PerExample:
        """The length of the difference, for each example."""
        travelled = norm(run.value - run.init)
        # An example that never moved is seen at the scale of its numbers.
        scale = torch.where(travelled > 0, travelled, torch.where(norm(y) > 0, norm(y), 1.0))
        relative = self.relative_step or torch.finfo(y.dtype).eps ** (1 / 3)
        return relative * scale * (norm(y) / scale).clamp_min(1.0) ** (1 / 3)


def magnitudes(u: Rows) -> list[Rows]:
    """Parts that add up to u, whose entries differ by less than 1 / ε^⅓.

    A difference along u loses what is smaller by 1/ε; and an objective may ignore, or hardly see,
    the coordinates where u is largest. What examples send to a tensor that they share is summed
    before it is subtracted, so that the orders of magnitude are those of numbers, the same for all
    examples and whatever else is in the batch.
    """
    width = -math.log(torch.finfo(u.dtype).eps ** (1 / 3))
    # What is not finite goes with some part; 0 goes with none.
    order = (u.abs().log() / width).floor().nan_to_num(nan=0.0, posinf=0.0)
    found = order[u != 0].unique().tolist()
    return [torch.where(order == k, u, 0.0) for k in found] or [u]
