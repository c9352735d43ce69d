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
from savi.types import Rows, Scalar


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

    def changes(
        self, outer: Scalar, hyper: Sequence[Tensor], u: Rows, step: Rows
    ) -> tuple[Rows, list[Tensor]]:
        """What changes of Hu − ∇_w outer and of (∂∇_w inner/∂h)ᵀu − ∂outer/∂h on a step s of w.

        To first order. They are derivatives of uᵀ∇_w inner − outer in w and in h, and so their
        changes along s are those of (Hu − ∇_w outer)ᵀs: third derivatives of inner, second ones
        of outer.
        """
        with torch.enable_grad():
            product = self.hessian_vector_product(u, create_graph=True)
            of_outer = torch.autograd.grad(
                outer, self.weights, retain_graph=True, create_graph=True, allow_unused=True
            )
            along = ((product - flat(of_outer, self.weights)) * step).sum()
        inputs, count = [*self.weights, *hyper], len(self.weights)
        found: Sequence[Tensor | None] = [None] * len(inputs)
        if along.requires_grad:
            found = torch.autograd.grad(along, inputs, retain_graph=True, allow_unused=True)
        return flat(found[:count], self.weights), or_zeros(found[count:], hyper)

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
