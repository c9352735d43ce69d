"""Backpropagation through every inner step, with all but a few iterates recomputed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from savi.gradients.base import BACKENDS
from savi.gradients.recompute import RecomputingBackend, Segment
from savi.inner.history import EveryNth
from savi.inner.loop import InnerLoop
from savi.inner.objective import InnerObjective
from savi.inner.solution import Solution
from savi.settings import setting
from savi.types import Rows

#: Named choices of ``every``: n as a function of K.
EVERY: dict[str, Callable[[int], int]] = {
    "step": lambda steps: 1,
    "sqrt": lambda steps: max(1, math.isqrt(steps)),
}


@BACKENDS.register("checkpointed")
@dataclass(frozen=True)
class Checkpointed(RecomputingBackend):
    """The gradient of ``unrolled``, in less memory (Griewank and Walther 2000, treeverse).

    The loop runs without a graph and keeps the iterate (y, optimiser state) before every n-th
    step; the backward rebuilds the graph of n steps at a time. Its price is a second run.

    Activations: those of n steps. Iterates: K/n, each a few numbers per variable, where a step's
    activations are whole layers of a decoder.

    Args:
        every: n, or ``sqrt`` for n = ⌊√K⌋, or ``step`` for n = 1 (the least memory; the time is
            the same).
    """

    every: int | str = setting("sqrt", at_least=1, one_of=EVERY)
    name: ClassVar[str] = "checkpointed"
    memory: ClassVar[str] = "O(√K)"

    def run(
        self, loop: InnerLoop, objective: InnerObjective, init: Rows
    ) -> tuple[Solution, Callable[[], Iterator[Segment]]]:
        """Keep every n-th iterate; the steps between two of them are a segment."""
        n = self.every if isinstance(self.every, int) else EVERY[self.every](loop.max_steps)
        recorder = EveryNth(n)
        solution = loop.run(objective, init, recorder=recorder, through_steps=True)
        last = int(solution.steps.max()) if len(solution.steps) else 0

        def segments() -> Iterator[Segment]:
            for iterate in reversed(recorder.iterates):
                yield Segment(iterate, min(n, last - iterate.step), recorder.decisions)

        return solution, segments
