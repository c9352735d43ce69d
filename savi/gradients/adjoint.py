"""Cotangents on their way backwards through the steps of an inner run."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._pytree import tree_leaves


class Adjoint:
    """The cotangents of λ, of the optimiser's state, and of the captured tensors (which add up)."""

    def __init__(self, y: Float[Tensor, "B P"], captured: int) -> None:
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
