"""Libraries that build upon PyTorch: higher, TorchDEQ and TorchOpt.

higher: Grefenstette et al. 2019, arXiv 1910.01727. TorchDEQ: Geng and Kolter 2023, arXiv
2310.18605. TorchOpt: Ren et al. 2023, arXiv 2211.06934.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import linear, softplus

from benchmarks.peers.problem import Problem
from benchmarks.peers.systems.base import SYSTEMS, Answer, Settings, System, best_of_grid
from savi.types import Codes, Observations, PerExample, Scalar

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

    def decode(self, weights: Weights, z: Codes) -> Observations:
        """μ(z)."""
        *hidden, last = zip(weights[::2], weights[1::2], strict=True)
        for weight, bias in hidden:
            z = softplus(linear(z, weight, bias))
        return linear(z, *last)

    def misfit(self, weights: Weights, z: Codes) -> PerExample:
        """‖x − μ(z)‖² / 2γ."""
        return (self._x - self.decode(weights, z)).square().sum(dim=-1) / (2.0 * self._gamma)

    def energy(self, weights: Weights, z: Codes) -> Scalar:
        """Σ_b J_b(z_b)."""
        return self.misfit(weights, z).sum() + 0.5 * z.square().sum()

    def slope(self, weights: Weights, z: Codes) -> Codes:
        """∇J(z) without a graph."""
        with torch.enable_grad():
            point = z.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.energy(weights, point), point)
        return gradient

    def outer(self, z: Codes) -> Scalar:
        """L."""
        misfit = self.misfit(self.weights, z + self._offset)
        return (misfit + 0.5 * z.square().sum(dim=-1)).mean()

    def answer(self, solve: Callable[[], Tensor]) -> Answer:
        value = solve()
        return Answer(value.detach(), torch.autograd.grad(self.outer(value), self.weights))


@SYSTEMS.register("higher_unrolled")
class DifferentiableSGD(System):
    """``higher.get_diff_optim`` of ``torch.optim.SGD``, which takes tensors without a module."""

    packages = ("higher",)
    label, part, kind = "higher, unrolled", "fixed", "unrolled"

    def __init__(self, problem: Problem, settings: Settings) -> None:
        import higher

        self.higher, self.problem, self.settings = higher, TorchProblem(problem), settings

    def step(self) -> Answer:
        return self.problem.answer(self._solve)

    def _solve(self) -> Tensor:
        problem = self.problem
        z = problem.start.clone().requires_grad_()
        descent = torch.optim.SGD([z], lr=self.settings.lr)
        optimizer = self.higher.get_diff_optim(descent, [z])
        for _ in range(self.settings.steps):
            (z,) = optimizer.step(problem.energy(problem.weights, z), params=[z])
        return z


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
