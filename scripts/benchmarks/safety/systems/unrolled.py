"""What packages that unroll an optimiser have in common: a module whose parameter is y."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from benchmarks.safety.descent import slope
from benchmarks.safety.problem import Problem
from benchmarks.safety.systems.base import Answer, pulled_back


class InnerModule(nn.Module):
    """y as a parameter, J(y; θ) as the loss."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.y = nn.Parameter(problem.init.clone())
        self.energy = problem.energy

    def forward(self, theta: Tensor) -> Tensor:
        """J."""
        return self.energy(self.y, theta).sum()


def unroll(problem: Problem, theta: Tensor, module: Any, step: Callable[[Tensor], Any]) -> Answer:
    """At most K calls of ``step``, with the problem's stopping rule, and back through them."""
    tolerance = problem.rtol * slope(problem, problem.init, theta.detach()).norm()
    for _ in range(problem.max_steps):
        if bool(slope(problem, module.y.detach(), theta.detach()).norm() <= tolerance):
            break
        step(module(theta))
    return pulled_back(module.y, theta, problem)
