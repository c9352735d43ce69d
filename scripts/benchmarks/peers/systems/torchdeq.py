"""TorchDEQ (Geng and Kolter 2023, arXiv 2310.18605)."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.peers.problem import Problem
from benchmarks.peers.systems.base import SYSTEMS, Answer, Settings, System
from benchmarks.peers.systems.torch_functions import TorchProblem


@SYSTEMS.register("torchdeq_implicit")
class ImplicitDifferentiation(System):
    """z* as the fixed point of z − α∇J(z), by ``torchdeq.get_deq`` with ``ift=True``.

    Forward its plain iteration without statistics, of which the last application, the one that the
    graph is attached to, is the Kth step. Backward its Broyden solver: plain iteration contracts
    the adjoint no faster than the descent itself, and its Anderson mixing no further than 1e-2.
    """

    packages = ("torchdeq",)
    label, part, kind = "torchdeq, implicit", "fixed", "ift"

    def __init__(self, problem: Problem, settings: Settings) -> None:
        from torchdeq import get_deq

        self.problem, self.lr = TorchProblem(problem), settings.lr
        self.deq = get_deq(
            f_solver="simple_fixed_point_iter",
            f_max_iter=settings.steps - 1,
            ift=True,
            b_solver="broyden",
            b_max_iter=4 * problem.start.shape[1],
            b_tol=1e-5,
            b_stop_mode="rel",
        )

    def step(self) -> Answer:
        """Iterate, and send the cotangent through the backward solver."""
        return self.problem.answer(lambda: self.deq(self._map, self.problem.start.clone())[0][-1])

    def _map(self, z: Tensor) -> Tensor:
        problem = self.problem
        if not torch.is_grad_enabled():
            return z - self.lr * problem.slope(problem.weights, z)
        if not z.requires_grad:
            z = z.requires_grad_()
        energy = problem.energy(problem.weights, z)
        (slope,) = torch.autograd.grad(energy, z, create_graph=True)
        return z - self.lr * slope
