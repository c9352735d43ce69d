"""The Hessian of a loss in all of a model's weights, by products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from savi.implicit.smoothness import kinked_operations
from savi.inner.objective import Linearization
from savi.linear import SymmetricOperator
from savi.linear.dense import plus_diagonal
from savi.types import Rows


@dataclass(frozen=True, kw_only=True)
class WeightHessian(Linearization):
    """∇_w inner = 0 as one system of the size P of all weights together, so that B = 1.

    Attributes:
        weights: w, whose entries are the point.
        damping: δ, which is added to H where a system is solved.
    """

    weights: Sequence[Tensor]
    damping: float

    @classmethod
    def of(
        cls, gradient: Sequence[Tensor | None], weights: Sequence[Tensor], damping: float = 0.0
    ) -> WeightHessian:
        """From ∇_w inner with its graph, None for a weight that inner does not depend on."""
        point = flat(weights, weights).detach()
        return cls(point=point, residual=flat(gradient, weights), weights=weights, damping=damping)

    def hessian_vector_product(self, v: Rows, create_graph: bool = False) -> Rows:
        """H v."""
        return flat(self.pull_back(self.weights, v, create_graph), self.weights)

    def operator(self, curvature: Callable[[], Tensor] | None = None) -> SymmetricOperator:
        """H + δI."""
        return SymmetricOperator(
            lambda v: self.hessian_vector_product(v) + self.damping * v,
            lambda: plus_diagonal(
                self.by_products(), torch.tensor([[self.damping]]).to(self.point)
            ),
        )

    def bent(
        self, hyper: Sequence[Tensor], u: Rows, step: Rows
    ) -> tuple[Rows, tuple[Tensor | None, ...]]:
        """How Hu and (∂∇_w inner/∂h)ᵀu change, to first order, when the weights move by ``step``.

        Both are derivatives of uᵀ∇_w inner, and so their changes along s are those of uᵀHs in w
        and in h: two more gradients, of third derivatives of inner.
        """
        nothing = torch.zeros_like(u), (None,) * len(hyper)
        with torch.enable_grad():
            product = self.hessian_vector_product(u, create_graph=True)
            along = (product * step).sum()
        if not along.requires_grad:
            return nothing
        inputs = [*self.weights, *hyper]
        found = torch.autograd.grad(along, inputs, retain_graph=True, allow_unused=True)
        count = len(self.weights)
        return flat(found[:count], self.weights), found[count:]

    def kinks(self) -> tuple[str, ...]:
        """The operations with a kink between the weights and ∇_w inner."""
        named = {name for w in self.weights for name in kinked_operations(self.residual, w)}
        return tuple(sorted(named))


def or_zeros(found: Sequence[Tensor | None], like: Sequence[Tensor]) -> list[Tensor]:
    """Zeros where a loss does not depend on a tensor."""
    return [torch.zeros_like(t) if g is None else g for g, t in zip(found, like, strict=True)]


def flat(found: Sequence[Tensor | None], like: Sequence[Tensor]) -> Rows:
    """All entries in one row."""
    return torch.cat([part.reshape(-1) for part in or_zeros(found, like)]).unsqueeze(0)
