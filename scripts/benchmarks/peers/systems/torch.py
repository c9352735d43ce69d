"""Libraries that build upon PyTorch: higher, TorchDEQ and TorchOpt.

higher: Grefenstette et al. 2019, arXiv 1910.01727. TorchDEQ: Geng and Kolter 2023, arXiv
2310.18605. TorchOpt: Ren et al. 2023, arXiv 2211.06934.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import linear, softplus

from benchmarks.peers.problem import Problem
from benchmarks.peers.systems.base import SYSTEMS, Answer, Settings, System, best_of_grid
from benchmarks.systems import Lazy
from savi.types import Codes, PerExample, Scalar

higher, torchdeq, torchopt = Lazy("higher"), Lazy("torchdeq"), Lazy("torchopt")
torchopt_implicit = Lazy("torchopt.diff.implicit")

Weights = Sequence[Tensor]


class TorchSystem(System):
    """J, ∇J and L as functions of the weights and the codes, and the gradient of L."""

    def __init__(self, problem: Problem, settings: Settings) -> None:
        self.weights = [torch.from_numpy(w).requires_grad_() for w in problem.weights]
        self.start, self.settings = torch.from_numpy(problem.start), settings
        self._x, self._gamma = torch.from_numpy(problem.x), problem.gamma
        self._offset = torch.from_numpy(problem.scale * problem.noise)

    def step(self) -> Answer:
        z = self.solve()
        loss = (self._misfit(self.weights, z + self._offset) + 0.5 * z.square().sum(dim=-1)).mean()
        return Answer(z.detach(), torch.autograd.grad(loss, self.weights))

    @abstractmethod
    def solve(self) -> Codes:
        """The codes where the solve ends, attached to the weights by the library."""

    def energy(self, weights: Weights, z: Codes) -> Scalar:
        """Σ_b J_b(z_b)."""
        return self._misfit(weights, z).sum() + 0.5 * z.square().sum()

    def slope(self, weights: Weights, z: Codes) -> Codes:
        """∇J(z) without a graph."""
        with torch.enable_grad():
            point = z.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.energy(weights, point), point)
        return gradient

    def _misfit(self, weights: Weights, z: Codes) -> PerExample:
        """‖x − μ(z)‖² / 2γ."""
        *hidden, last = zip(weights[::2], weights[1::2], strict=True)
        for weight, bias in hidden:
            z = softplus(linear(z, weight, bias))
        return (self._x - linear(z, *last)).square().sum(dim=-1) / (2.0 * self._gamma)


@SYSTEMS.register("higher_unrolled")
class DifferentiableSGD(TorchSystem):
    """``higher.get_diff_optim`` of ``torch.optim.SGD``, which takes tensors without a module."""

    packages = ("higher",)
    label, part, kind = "higher, unrolled", "fixed", "unrolled"

    def solve(self) -> Codes:
        z = self.start.clone().requires_grad_()
        optimizer = higher.get_diff_optim(torch.optim.SGD([z], lr=self.settings.lr), [z])
        for _ in range(self.settings.steps):
            (z,) = optimizer.step(self.energy(self.weights, z), params=[z])
        return z


@SYSTEMS.register("torchdeq_implicit")
class ImplicitDifferentiation(TorchSystem):
    """z* as the fixed point of z − α∇J(z), by ``torchdeq.get_deq`` with ``ift=True``.

    Forward its plain iteration without statistics, of which the last application, the one that the
    graph is attached to, is the Kth step. Backward its Broyden solver: plain iteration contracts
    the adjoint no faster than the descent itself, and its Anderson mixing no further than 1e-2.
    """

    packages = ("torchdeq",)
    label, part, kind = "torchdeq, implicit", "fixed", "ift"

    def __init__(self, problem: Problem, settings: Settings) -> None:
        super().__init__(problem, settings)
        forward = {"f_solver": "simple_fixed_point_iter", "f_max_iter": settings.steps - 1}
        most = 4 * problem.start.shape[1]
        backward = {"b_solver": "broyden", "b_max_iter": most, "b_tol": 1e-5, "b_stop_mode": "rel"}
        self.deq = torchdeq.get_deq(ift=True, **forward, **backward)

    def solve(self) -> Codes:
        return self.deq(self._map, self.start.clone())[0][-1]

    def _map(self, z: Codes) -> Codes:
        if not torch.is_grad_enabled():
            return z - self.settings.lr * self.slope(self.weights, z)
        if not z.requires_grad:
            z = z.requires_grad_()
        (slope,) = torch.autograd.grad(self.energy(self.weights, z), z, create_graph=True)
        return z - self.settings.lr * slope


@SYSTEMS.register("torchopt_unrolled")
class Unrolled(TorchSystem):
    """``torchopt.FuncOptimizer`` around ``torchopt.sgd``."""

    packages = ("torchopt",)
    label, part, kind = "torchopt, unrolled", "fixed", "unrolled"

    def solve(self) -> Codes:
        optimizer = torchopt.FuncOptimizer(torchopt.sgd(lr=self.settings.lr))
        z = self.start.clone().requires_grad_()
        for _ in range(self.settings.steps):
            (z,) = optimizer.step(self.energy(self.weights, z), (z,))
        return z


class _CustomRoot(TorchSystem):
    """``torchopt.diff.implicit.custom_root`` around one of its functional optimisers, with its CG.

    Its linear solvers take the batch as one system: a step length is shared by all examples.
    """

    packages = ("torchopt",)

    def __init__(self, problem: Problem, settings: Settings) -> None:
        super().__init__(problem, settings)
        self.fixed = [weight.detach() for weight in self.weights]
        self._root = self.root(*self.chosen())

    @abstractmethod
    def chosen(self) -> tuple[Any, int]:
        """The optimiser, and its number of steps."""

    def solve(self) -> Codes:
        return self._root(self.start, *self.weights)

    def root(self, optimizer: Any, steps: int) -> Callable[..., Tensor]:
        """(z0, *weights) ↦ zK, differentiable in the weights as a root of ∇J."""

        def optimality(z: Tensor, *weights: Tensor) -> Tensor:
            return torch.func.grad(lambda point: self.energy(weights, point))(z)

        @torchopt_implicit.custom_root(
            optimality,
            argnums=tuple(range(1, 1 + len(self.weights))),
            solve=torchopt.linear_solve.solve_cg(),
        )
        def solve(start: Tensor, *weights: Tensor) -> Tensor:
            return next(islice(self.iterates(optimizer), steps, None))

        return cast(Callable[..., Tensor], solve)

    def iterates(self, optimizer: Any) -> Iterator[Tensor]:
        """z0, z1, …, which share their memory."""
        z: tuple[Tensor, ...] = (self.start.clone(),)
        state = optimizer.init(z)
        while True:
            yield z[0]
            gradients = (self.slope(self.fixed, z[0]),)
            updates, state = optimizer.update(gradients, state, inplace=True)
            z = torchopt.apply_updates(z, updates, inplace=True)


@SYSTEMS.register("torchopt_implicit")
class Implicit(_CustomRoot):
    """K steps of ``torchopt.sgd``."""

    label, part, kind = "torchopt, implicit", "fixed", "ift"

    def chosen(self) -> tuple[Any, int]:
        return torchopt.sgd(lr=self.settings.lr), self.settings.steps


@SYSTEMS.register("torchopt_adam")
class Adam(_CustomRoot):
    """``torchopt.adam`` with the best step size of a grid, until enough examples are solved."""

    label, part, kind = "torchopt, Adam", "converged", "first_order"

    def chosen(self) -> tuple[Any, int]:
        lr, steps = best_of_grid((0.01, 0.02, 0.05, 0.1), self._stationarities, self.settings)
        self.note = f"step size {lr:g}, {steps} steps"
        return torchopt.adam(lr=lr), steps

    def _stationarities(self, lr: float) -> Iterator[float]:
        start = self.slope(self.fixed, self.start).norm(dim=-1)
        for z in self.iterates(torchopt.adam(lr=lr)):
            slope = self.slope(self.fixed, z).norm(dim=-1)
            yield float((slope / start).quantile(self.settings.fraction))
