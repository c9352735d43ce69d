"""Kinks at the solution or beside it, where a Hessian on one side is not the whole story."""

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.safety.problem import FAMILIES, Draw, Problem, alternate

REPEATS = 5


def soft_threshold(draw: Draw, index: int) -> Problem:
    """½ Σ (y − θ)² + Σ|y|: λ*_i is 0 and stays so while |θ_i| < 1, else θ_i − sign θ_i."""
    size = 2 + index % 3
    theta, w = 2.0 * draw.normal(size), draw.normal(1, size)
    theta[0] = 0.5 * draw.signs(1)[0]

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        return (0.5 * (y - theta).square() + y.abs()).sum(dim=-1)

    moves = (theta.abs() > 1.0).double()
    return _problem("|y|", draw, energy, theta, w, moves * w[0].double(), 10.0 ** (index / 2))


def on_absolute(draw: Draw, index: int) -> Problem:
    """The same with θ₁ = 0, started at y₁ = 0, where autograd calls the slope of |y| 0."""
    problem = soft_threshold(draw, index)
    theta, init = problem.theta.clone(), problem.init.clone()
    theta[0], init[0, 0] = 0.0, 0.0
    energy, w = problem.energy, problem.cotangent
    moves = (theta.abs() > 1.0).double()
    return _problem("exactly on |y|", draw, energy, theta, w, moves * w[0].double(), init)


def relu_edge(draw: Draw, index: int) -> Problem:
    """½ Σ (y − θ)² + Σ relu(y): λ*_i = 0 while 0 < θ_i < 1."""
    size = 1 + index % 3
    theta, w = 2.0 * draw.normal(size), draw.normal(1, size)
    theta[0] = draw.uniform(1, low=0.2, high=0.8)[0]

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        return (0.5 * (y - theta).square() + y.relu()).sum(dim=-1)

    moves = ((theta < 0.0) | (theta > 1.0)).double()
    return _problem("relu", draw, energy, theta, w, moves * w[0].double(), 10.0 ** (index / 2))


def on_relu(draw: Draw, index: int) -> Problem:
    """The same with θ₁ = 0, started at y₁ = 0: the derivatives from left and right are 1 and 0."""
    problem = relu_edge(draw, index)
    theta, init = problem.theta.clone(), problem.init.clone()
    theta[0], init[0, 0] = 0.0, 0.0
    return _problem("exactly on relu", draw, problem.energy, theta, problem.cotangent, None, init)


def tied_maximum(draw: Draw, index: int) -> Problem:
    """½ ‖y − θ‖² + max y with two largest θ that are equal: the two y stay together."""
    size = 2 + index % 3
    theta, w = draw.normal(size), draw.normal(1, size)
    theta[:2] = theta.max() + 2.0

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        return 0.5 * (y - theta).square().sum(dim=-1) + y.amax(dim=-1)

    derivative = w[0].double()
    derivative[:2] = derivative[:2].mean()
    init = draw.normal(1, size)
    init[0, :2] = init.max()
    return _problem("exactly on a tie of max", draw, energy, theta, w, derivative, init)


def fused_pair(draw: Draw, index: int) -> Problem:
    """½ ‖y − θ‖² + |y₁ − y₂| with |θ₁ − θ₂| < 2: the two y are equal and stay so."""
    theta, w = draw.normal(2), draw.normal(1, 2)
    theta[1] = theta[0] + draw.uniform(1, low=-1.0, high=1.0)[0]

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        return 0.5 * (y - theta).square().sum(dim=-1) + (y[:, 0] - y[:, 1]).abs()

    derivative = w[0].double().mean().expand(2)
    return _problem("|y₁ − y₂|", draw, energy, theta, w, derivative, 10.0 ** (index / 2))


def curvature_jump(draw: Draw, index: int) -> Problem:
    """½y² + ½ relu(y)² − θy: λ* = θ or ½θ, so close to 0 that a solve may stop across from it."""
    theta, w = 10.0 ** -(3.0 + index / 2) * draw.signs(2), draw.normal(1, 2)

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        return (0.5 * y.square() + 0.5 * y.relu().square() - theta * y).sum(dim=-1)

    derivative = torch.where(theta > 0, 0.5, 1.0).double() * w[0].double()
    return _problem("a jump of curvature", draw, energy, theta, w, derivative, draw.normal(1, 2))


def group_norm(draw: Draw, index: int) -> Problem:
    """½ ‖y − θ‖² + ‖y‖ at θ = 0 and y = 0, where λ* = 0 stays."""
    size = 2 + index % 3
    zero, w = torch.zeros(size, dtype=draw.dtype), draw.normal(1, size)

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        return 0.5 * (y - theta).square().sum(dim=-1) + torch.linalg.vector_norm(y, dim=-1)

    return _problem("exactly on ‖y‖", draw, energy, zero, w, zero.double(), zero[None].clone())


def relu_network(draw: Draw, index: int) -> Problem:
    """½ ‖θ − W₂ relu(W₁y)‖² + ½ ‖y‖² at y = 0: all units at their kinks, the slope "0".

    θ is an output of the network, so that there is a way down and y = 0 is no minimiser.
    """
    size = 2 + index % 2
    first, second = draw.normal(8, size), draw.normal(6, 8)
    theta = second @ (first @ (2.0 * draw.normal(size))).relu()

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        mean = (y @ first.to(y).mT).relu() @ second.to(y).mT
        return 0.5 * (theta - mean).square().sum(dim=-1) + 0.5 * y.square().sum(dim=-1)

    init, w = torch.zeros(1, size, dtype=draw.dtype), draw.normal(1, size)
    return _problem("exactly on all kinks of a network", draw, energy, theta, w, None, init)


def _problem(
    name: str,
    draw: Draw,
    energy: Callable[[Tensor, Tensor], Tensor],
    theta: Tensor,
    cotangent: Tensor,
    answer: Tensor | None,
    start: Tensor | float,
) -> Problem:
    """Gradient descent from ``start``, or from a random point at that distance."""
    size = cotangent.shape[1]
    init = start if isinstance(start, Tensor) else start * draw.normal(1, size)
    return Problem(
        name=f"{name}, P = {size}, {draw.dtype}",
        energy=energy,
        theta=theta,
        init=init,
        cotangent=cotangent,
        lr=0.2,
        max_steps=100,
        answer=answer,
    )


KINDS: tuple[Callable[[Draw, int], Problem], ...] = (
    soft_threshold,
    on_absolute,
    relu_edge,
    on_relu,
    tied_maximum,
    fused_pair,
    curvature_jump,
    group_norm,
    relu_network,
)


@FAMILIES.register("kink")
def kinks(seed: int) -> list[Problem]:
    """|y|, relu, max and their like at the solution, with the solve on the kink or around it."""
    return [
        build(Draw(seed, 9, kind, index, dtype=alternate(index)), index)
        for kind, build in enumerate(KINDS)
        for index in range(REPEATS)
    ]
