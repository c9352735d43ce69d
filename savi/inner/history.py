"""What a gradient backend keeps of an inner run, to recompute parts of it later."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from savi.types import Mask, Rows


class Iterate(NamedTuple):
    """Where the loop stood before step ``step``."""

    step: int
    y: Rows
    state: Any


class Decision(NamedTuple):
    """What an optimiser that judges its trials decided at a step.

    A step that is repeated with other roundings must not decide anew: at a minimum whether J still
    falls is a matter of its last bits, and so are the damping and the steps that follow.

    ``scalars`` are the numbers of shape [B] in the state after it, in the state's order; None
    elsewhere.
    """

    accepted: Mask
    scalars: tuple[Tensor | None, ...]

    @classmethod
    def of(cls, accepted: Mask, state: Any) -> Decision:
        """Keep it."""
        scalar = (x if isinstance(x, Tensor) and x.ndim == 1 else None for x in tree_leaves(state))
        return cls(accepted, tuple(scalar))

    def repeated(self, state: Any) -> Any:
        """The state of a repetition, with the numbers of the first time."""
        leaves, spec = tree_flatten(state)
        kept = [
            new if old is None or new.requires_grad else old
            for new, old in zip(leaves, self.scalars, strict=True)
        ]
        return tree_unflatten(kept, spec)


class Recorder:
    """Sees every iterate of a run before the step from it is taken. This one keeps none of them.

    A run that is watched keeps its batch together: the state at its end is that of all examples.
    ``state`` is the optimiser's at the end of the run.
    """

    def __init__(self) -> None:
        self.iterates: list[Iterate] = []
        self.state: Any = None

    def begin(self) -> None:
        """Forget an earlier run."""
        self.iterates = []

    def record(self, iterate: Iterate, active: Mask) -> None:
        """Look at an iterate, from which the ``active`` examples go on."""

    def decide(self, accepted: Mask, state: Any) -> None:
        """Look at what was decided about the trial from the last iterate."""


class EveryNth(Recorder):
    """Keeps the iterates 0, n, 2n, ..., and the decisions of all steps."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n
        self.decisions: list[Decision] = []

    def begin(self) -> None:
        """Forget an earlier run."""
        super().begin()
        self.decisions = []

    def decide(self, accepted: Mask, state: Any) -> None:
        """Keep it."""
        self.decisions.append(Decision.of(accepted, state))

    def record(self, iterate: Iterate, active: Mask) -> None:
        """Keep it if its turn has come."""
        if iterate.step % self.n == 0:
            self.iterates.append(iterate)


class LastSteps(Recorder):
    """Keeps what each example's own last T steps need: ``iterates[0]`` is where they begin.

    An example that has stopped keeps its register while the others shift theirs, so that the
    examples' steps need not end together.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def record(self, iterate: Iterate, active: Mask) -> None:
        """Append, or shift the registers of the active examples."""
        kept = [*self.iterates, iterate]
        if len(kept) > self.steps:
            kept = [
                newer if bool(active.all()) else _merge(active, newer, older)
                for older, newer in pairwise(kept)
            ]
        self.iterates = kept


def _merge(active: Mask, new: Iterate, old: Iterate) -> Iterate:
    """``new`` in the active rows, ``old`` in the others."""

    def rows(a: Any, b: Any) -> Any:
        if not isinstance(a, Tensor):
            return a
        return torch.where(active.view(-1, *[1] * (a.ndim - 1)), a, b)

    return Iterate(new.step, rows(new.y, old.y), tree_map(rows, new.state, old.state))
