"""TorchOpt (Ren et al. 2023, arXiv 2211.06934)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor

from benchmarks.peers.problem import Problem
from benchmarks.peers.systems.base import SYSTEMS, Answer, Settings, System, best_of_grid
from benchmarks.peers.systems.torch_functions import TorchProblem

#: Adam's step sizes that are tried.
GRID = (0.01, 0.02, 0.05, 0.1)


@SYSTEMS.register("torchopt_unrolled")
class Unrolled(System):
    """``torchopt.FuncOptimizer`` around ``torchopt.sgd``."""

    packages = ("torchopt",)
    label, part, kind = "torchopt, unrolled", "fixed", "unrolled"

    def __init__(self, problem: Problem, settings: Settings) -> None:
        import torchopt

        self.torchopt, self.problem, self.settings = torchopt, TorchProblem(problem), settings

    def step(self) -> Answer:
        """Backpropagate through the steps."""
        return self.problem.answer(self._solve)

    def _solve(self) -> Tensor:
        problem = self.problem
        optimizer = self.torchopt.FuncOptimizer(self.torchopt.sgd(lr=self.settings.lr))
        z = problem.start.clone().requires_grad_()
        for _ in range(self.settings.steps):
            (z,) = optimizer.step(problem.energy(problem.weights, z), (z,))
        return z


class _CustomRoot(System):
    """``torchopt.diff.implicit.custom_root`` around one of its functional optimisers, with its CG.

    Its linear solvers take the batch as one system: a step length is shared by all examples.
    """

    packages = ("torchopt",)

    def __init__(self, problem: Problem, settings: Settings) -> None:
        import torchopt

        self.torchopt, self.problem = torchopt, TorchProblem(problem)

    def root(self, optimizer: Any, steps: int) -> Callable[..., Tensor]:
        """(z0, *weights) ↦ zK, differentiable in the weights as a root of ∇J."""
        from torchopt.diff.implicit import custom_root

        problem = self.problem

        def optimality(z: Tensor, *weights: Tensor) -> Tensor:
            return torch.func.grad(lambda point: problem.energy(weights, point))(z)

        @custom_root(
            optimality,
            argnums=tuple(range(1, 1 + len(problem.weights))),
            solve=self.torchopt.linear_solve.solve_cg(),
        )
        def solve(start: Tensor, *weights: Tensor) -> Tensor:
            for _, z in zip(range(steps + 1), self.iterates(optimizer), strict=False):  # noqa: B007
                pass
            return z

        return cast(Callable[..., Tensor], solve)

    def iterates(self, optimizer: Any) -> Iterator[Tensor]:
        """z0, z1, …, which share their memory."""
        weights = [weight.detach() for weight in self.problem.weights]
        z: tuple[Tensor, ...] = (self.problem.start.clone(),)
        state = optimizer.init(z)
        while True:
            yield z[0]
            gradients = (self.problem.slope(weights, z[0]),)
            updates, state = optimizer.update(gradients, state, inplace=True)
            z = self.torchopt.apply_updates(z, updates, inplace=True)

    def step(self) -> Answer:
        """Solve, and send the cotangent through the linear solver."""
        problem = self.problem
        return problem.answer(lambda: self.solve(problem.start, *problem.weights))

    solve: Callable[..., Tensor]


@SYSTEMS.register("torchopt_implicit")
class Implicit(_CustomRoot):
    """K steps of ``torchopt.sgd``."""

    label, part, kind = "torchopt, implicit", "fixed", "ift"

    def __init__(self, problem: Problem, settings: Settings) -> None:
        super().__init__(problem, settings)
        self.solve = self.root(self.torchopt.sgd(lr=settings.lr), settings.steps)


@SYSTEMS.register("torchopt_adam")
class Adam(_CustomRoot):
    """``torchopt.adam`` with the best step size of a grid, until enough examples are solved."""

    label, part, kind = "torchopt, Adam", "converged", "first_order"

    def __init__(self, problem: Problem, settings: Settings) -> None:
        super().__init__(problem, settings)
        lr, steps = best_of_grid(GRID, lambda lr: self._stationarities(lr, settings), settings)
        self.solve = self.root(self.torchopt.adam(lr=lr), steps)
        self.note = f"step size {lr:g}, {steps} steps"

    def _stationarities(self, lr: float, settings: Settings) -> Iterator[float]:
        weights = [weight.detach() for weight in self.problem.weights]
        start = self.problem.slope(weights, self.problem.start).norm(dim=-1)
        for z in self.iterates(self.torchopt.adam(lr=lr)):
            slope = self.problem.slope(weights, z).norm(dim=-1)
            yield float((slope / start).quantile(settings.fraction))
