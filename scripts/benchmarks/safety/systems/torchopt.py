"""TorchOpt (Ren et al. 2023, arXiv 2211.06934)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from benchmarks.safety.descent import descend
from benchmarks.safety.problem import Problem
from benchmarks.safety.systems.base import SYSTEMS, Answer, System, pulled_back, refuse_newton
from benchmarks.safety.systems.unrolled import InnerModule, unroll


class _CustomRoot(System):
    """``torchopt.diff.implicit.custom_root`` around a descent, with one of its linear solvers."""

    package = "torchopt"
    solver: ClassVar[str]
    options: ClassVar[dict[str, Any]] = {}

    def answer(self, problem: Problem) -> Answer:
        """λ* as the root of ∇J."""
        from torchopt import linear_solve
        from torchopt.diff.implicit import custom_root

        def optimality(y: Tensor, theta: Tensor) -> Tensor:
            return torch.func.grad(lambda point: problem.energy(point, theta).sum())(y)

        solver = getattr(linear_solve, self.solver)(**self.options)

        @custom_root(optimality, argnums=1, solve=solver)
        def solve(init: Tensor, theta: Tensor) -> Tensor:
            return descend(problem, theta).value

        theta = problem.theta.clone().requires_grad_()
        value = solve(problem.init, theta)
        assert isinstance(value, Tensor)
        return pulled_back(value, theta, problem)


@SYSTEMS.register("torchopt_normal_cg")
class NormalConjugateGradients(_CustomRoot):
    """The default solver: conjugate gradients on the normal equations."""

    solver = "solve_normal_cg"


@SYSTEMS.register("torchopt_cg")
class ConjugateGradients(_CustomRoot):
    """Conjugate gradients."""

    solver = "solve_cg"


@SYSTEMS.register("torchopt_inverse")
class Inverse(_CustomRoot):
    """The dense matrix, solved by LU."""

    solver = "solve_inv"


@SYSTEMS.register("torchopt_neumann")
class Neumann(_CustomRoot):
    """Its Neumann series."""

    solver = "solve_inv"
    options: ClassVar[dict[str, Any]] = {"ns": True}


@SYSTEMS.register("torchopt_unrolled")
class MetaSGD(System):
    """``torchopt.MetaSGD``: differentiable gradient descent."""

    package = "torchopt"
    asks = "steps"

    def answer(self, problem: Problem) -> Answer:
        """Backpropagate through the steps."""
        import torchopt

        refuse_newton(problem)
        theta = problem.theta.clone().requires_grad_()
        module = InnerModule(problem)
        optimiser = torchopt.MetaSGD(module, lr=problem.lr)
        return unroll(problem, theta, module, optimiser.step)
