"""higher (Grefenstette et al. 2019, arXiv 1910.01727)."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.peers.problem import Problem
from benchmarks.peers.systems.base import SYSTEMS, Answer, Settings, System
from benchmarks.peers.systems.torch_functions import TorchProblem


@SYSTEMS.register("higher_unrolled")
class DifferentiableSGD(System):
    """``higher.get_diff_optim`` of ``torch.optim.SGD``, which takes tensors without a module."""

    packages = ("higher",)
    label, part, kind = "higher, unrolled", "fixed", "unrolled"

    def __init__(self, problem: Problem, settings: Settings) -> None:
        import higher

        self.higher, self.problem, self.settings = higher, TorchProblem(problem), settings

    def step(self) -> Answer:
        """Backpropagate through the steps."""
        return self.problem.answer(self._solve)

    def _solve(self) -> Tensor:
        problem = self.problem
        z = problem.start.clone().requires_grad_()
        descent = torch.optim.SGD([z], lr=self.settings.lr)
        optimizer = self.higher.get_diff_optim(descent, [z])
        for _ in range(self.settings.steps):
            (z,) = optimizer.step(problem.energy(problem.weights, z), params=[z])
        return z
