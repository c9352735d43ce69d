"""The Hessian of a loss in all of a model's weights, by products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from savi.gradients.smoothness import kinked_operations
from savi.linear import SymmetricOperator


@dataclass(frozen=True)
class WeightHessian:
    """H + δI as one block of the size P of all weights together, by products.

    Attributes:
        gradient: ∇_w inner with its graph, shape [1, P].
        weights: w.
        damping: δ.
    """

    gradient: Float[Tensor, "1 P"]
    weights: Sequence[Tensor]
    damping: float

    def undamped(self, v: Float[Tensor, "1 P"]) -> Float[Tensor, "1 P"]:
        """H v."""
        return flat(self.pull_back(self.weights, v), self.weights)

    def product(self, v: Float[Tensor, "1 P"]) -> Float[Tensor, "1 P"]:
        """(H + δI) v."""
        return self.undamped(v) + self.damping * v

    def dense(self) -> Float[Tensor, "1 P P"]:
        """H + δI by P products, symmetrised."""
        one_hots = torch.eye(self.gradient.shape[1]).to(self.gradient)
        matrix = torch.stack([self.product(e.unsqueeze(0)) for e in one_hots], dim=-1)
        return 0.5 * (matrix + matrix.mT)

    def operator(self) -> SymmetricOperator:
        """As the linear solvers see it: one example."""
        return SymmetricOperator(self.product, self.dense)

    def pull_back(
        self, inputs: Sequence[Tensor], v: Float[Tensor, "1 P"]
    ) -> tuple[Tensor | None, ...]:
        """(∂∇_w inner/∂input)ᵀ v for each input; None where there is no dependence."""
        if not self.gradient.requires_grad:
            return (None,) * len(inputs)
        return torch.autograd.grad(self.gradient, inputs, v, retain_graph=True, allow_unused=True)

    def kinks(self) -> tuple[str, ...]:
        """The operations with a kink between the weights and ∇_w inner."""
        named = {name for w in self.weights for name in kinked_operations(self.gradient, w)}
        return tuple(sorted(named))


def or_zeros(found: Sequence[Tensor | None], like: Sequence[Tensor]) -> list[Tensor]:
    """Zeros where a loss does not depend on a tensor."""
    return [torch.zeros_like(t) if g is None else g for g, t in zip(found, like, strict=True)]


def flat(found: Sequence[Tensor | None], like: Sequence[Tensor]) -> Float[Tensor, "1 P"]:
    """All entries in one row."""
    return torch.cat([part.reshape(-1) for part in or_zeros(found, like)]).unsqueeze(0)
