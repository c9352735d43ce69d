"""The problem in PyTorch, for the libraries that build upon it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear, softplus

from benchmarks.peers.problem import Problem
from benchmarks.peers.systems.base import Answer

Weights = Sequence[Tensor]


class TorchProblem:
    """J, ∇J and L as functions of the weights and the codes.

    Attributes:
        weights: W₁, b₁, …, W, b, which require gradients.
        start: z0.
    """

    def __init__(self, problem: Problem) -> None:
        self.weights = [torch.from_numpy(w).requires_grad_() for w in problem.weights]
        self.start = torch.from_numpy(problem.start)
        self._x, self._gamma = torch.from_numpy(problem.x), problem.gamma
        self._offset = torch.from_numpy(problem.scale * problem.noise)

    def decode(self, weights: Weights, z: Float[Tensor, "B d"]) -> Float[Tensor, "B D"]:
        """μ(z)."""
        *hidden, last = zip(weights[::2], weights[1::2], strict=True)
        for weight, bias in hidden:
            z = softplus(linear(z, weight, bias))
        return linear(z, *last)

    def misfit(self, weights: Weights, z: Float[Tensor, "B d"]) -> Float[Tensor, " B"]:
        """‖x − μ(z)‖² / 2γ."""
        return (self._x - self.decode(weights, z)).square().sum(dim=-1) / (2.0 * self._gamma)

    def energy(self, weights: Weights, z: Float[Tensor, "B d"]) -> Float[Tensor, ""]:
        """Σ_b J_b(z_b)."""
        return self.misfit(weights, z).sum() + 0.5 * z.square().sum()

    def slope(self, weights: Weights, z: Float[Tensor, "B d"]) -> Float[Tensor, "B d"]:
        """∇J(z) without a graph."""
        with torch.enable_grad():
            point = z.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.energy(weights, point), point)
        return gradient

    def outer(self, z: Float[Tensor, "B d"]) -> Float[Tensor, ""]:
        """L."""
        misfit = self.misfit(self.weights, z + self._offset)
        return (misfit + 0.5 * z.square().sum(dim=-1)).mean()

    def answer(self, solve: Callable[[], Tensor]) -> Answer:
        """Solve, and differentiate the outer loss there."""
        value = solve()
        return Answer(value.detach(), torch.autograd.grad(self.outer(value), self.weights))
