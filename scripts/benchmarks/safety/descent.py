"""The solves that a user of a general library writes by hand."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.reference import hessian
from benchmarks.safety.problem import Problem


def slope(problem: Problem, y: Tensor, theta: Tensor, create_graph: bool = False) -> Tensor:
    """∇_y J; with its graph to y and θ if ``create_graph``."""
    with torch.enable_grad():
        point = y if y.requires_grad else y.detach().requires_grad_()
        value = problem.energy(point, theta).sum()
        if not value.requires_grad:
            return torch.zeros_like(y)
        (gradient,) = torch.autograd.grad(value, point, create_graph=create_graph)
    return gradient


class Descent(NamedTuple):
    """Where a solve ended, and after how many steps."""

    value: Float[Tensor, "1 P"]
    steps: int


def descend(problem: Problem, theta: Tensor) -> Descent:
    """At most K steps of gradient descent, or of Newton's method, without a graph.

    Stops as the problem asks for, at ‖∇J‖ ≤ rtol ‖∇J(λ0)‖.
    """
    theta, y = theta.detach(), problem.init.clone()
    tolerance = None
    for k in range(problem.max_steps):
        gradient = slope(problem, y, theta)
        tolerance = problem.rtol * gradient.norm() if tolerance is None else tolerance
        if bool(gradient.norm() <= tolerance):
            return Descent(y, k)
        y = y - _step(problem, y, theta, gradient)
    return Descent(y, problem.max_steps)


def _step(problem: Problem, y: Tensor, theta: Tensor, gradient: Tensor) -> Tensor:
    if not problem.newton:
        return problem.lr * gradient
    return torch.linalg.lstsq(hessian(problem.energy, y, theta), gradient[0]).solution[None]


def stationarity(problem: Problem, y: Tensor) -> float:
    """‖∇J(y)‖ / ‖∇J(λ0)‖, 0 where both vanish."""
    theta = problem.theta.detach()
    here = float(slope(problem, y.detach(), theta).norm())
    start = float(slope(problem, problem.init, theta).norm())
    if here == 0.0:
        return 0.0
    return here / start if start != 0.0 else float("inf")
