"""Families with kinks, or with numbers that are not finite where the solve passes.

A kind of problem is a function of random numbers and an index; its energy is in its first line.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor
from torch.linalg import vector_norm

from benchmarks.reference import Energy
from benchmarks.safety.problem import FAMILIES, Draw, Problem, alternate, each

Kind = Callable[[Draw, int], Problem]


def _kinked(
    name: str, draw: Draw, energy: Energy, theta: Tensor, w: Tensor, answer: Tensor | None,
    start: Tensor | float,
) -> Problem:  # fmt: skip
    """Gradient descent from ``start``, or from a random point at that distance."""
    size = w.shape[1]
    init = start if isinstance(start, Tensor) else start * draw.normal(1, size)
    return Problem(f"{name}, P = {size}, {draw.dtype}", energy, theta, init, w, 0.2, 100, answer)


def _near(y: Tensor, theta: Tensor) -> Tensor:
    """½ ‖y − θ‖²."""
    return 0.5 * (y - theta).square().sum(dim=-1)


def _near_and(penalty: Callable[[Tensor], Tensor]) -> Energy:
    """½ ‖y − θ‖² + penalty(y)."""
    return lambda y, theta: _near(y, theta) + penalty(y)


def soft_threshold(draw: Draw, index: int) -> Problem:
    """½ Σ (y − θ)² + Σ|y|: λ*_i is 0 and stays so while |θ_i| < 1, else θ_i − sign θ_i."""
    size = 2 + index % 3
    theta, w = 2.0 * draw.normal(size), draw.normal(1, size)
    theta[0] = 0.5 * draw.signs(1)[0]
    answer, energy = (theta.abs() > 1.0) * w[0].double(), _near_and(lambda y: y.abs().sum(dim=-1))
    return _kinked("|y|", draw, energy, theta, w, answer, 10.0 ** (index / 2))


def on_absolute(draw: Draw, index: int) -> Problem:
    """The same with θ₁ = 0, started at y₁ = 0, where autograd calls the slope of |y| 0."""
    problem = soft_threshold(draw, index)
    theta, init, w = problem.theta.clone(), problem.init.clone(), problem.cotangent
    theta[0], init[0, 0] = 0.0, 0.0
    answer = (theta.abs() > 1.0) * w[0].double()
    return _kinked("exactly on |y|", draw, problem.energy, theta, w, answer, init)


def relu_edge(draw: Draw, index: int) -> Problem:
    """½ Σ (y − θ)² + Σ relu(y): λ*_i = 0 while 0 < θ_i < 1."""
    size = 1 + index % 3
    theta, w = 2.0 * draw.normal(size), draw.normal(1, size)
    theta[0] = draw.uniform(1, low=0.2, high=0.8)[0]
    answer = ((theta < 0.0) | (theta > 1.0)) * w[0].double()
    energy = _near_and(lambda y: y.relu().sum(dim=-1))
    return _kinked("relu", draw, energy, theta, w, answer, 10.0 ** (index / 2))


def on_relu(draw: Draw, index: int) -> Problem:
    """The same with θ₁ = 0, started at y₁ = 0: the derivatives from left and right are 1 and 0."""
    problem = relu_edge(draw, index)
    theta, init = problem.theta.clone(), problem.init.clone()
    theta[0], init[0, 0] = 0.0, 0.0
    return _kinked("exactly on relu", draw, problem.energy, theta, problem.cotangent, None, init)


def tied_maximum(draw: Draw, index: int) -> Problem:
    """½ ‖y − θ‖² + max y with two largest θ that are equal: the two y stay together."""
    size = 2 + index % 3
    theta, w = draw.normal(size), draw.normal(1, size)
    theta[:2] = theta.max() + 2.0
    answer = w[0].double()
    answer[:2] = answer[:2].mean()
    init = draw.normal(1, size)
    init[0, :2] = init.max()
    energy = _near_and(lambda y: y.amax(dim=-1))
    return _kinked("exactly on a tie of max", draw, energy, theta, w, answer, init)


def fused_pair(draw: Draw, index: int) -> Problem:
    """½ ‖y − θ‖² + |y₁ − y₂| with |θ₁ − θ₂| < 2: the two y are equal and stay so."""
    theta, w = draw.normal(2), draw.normal(1, 2)
    theta[1] = theta[0] + draw.uniform(1, low=-1.0, high=1.0)[0]
    energy = _near_and(lambda y: (y[:, 0] - y[:, 1]).abs())
    answer = w[0].double().mean().expand(2)
    return _kinked("|y₁ − y₂|", draw, energy, theta, w, answer, 10.0 ** (index / 2))


def curvature_jump(draw: Draw, index: int) -> Problem:
    """½y² + ½ relu(y)² − θy: λ* = θ or ½θ, so close to 0 that a solve may stop across from it."""
    theta, w = 10.0 ** -(3.0 + index / 2) * draw.signs(2), draw.normal(1, 2)

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        return (0.5 * y.square() + 0.5 * y.relu().square() - theta * y).sum(dim=-1)

    answer = torch.where(theta > 0, 0.5, 1.0).double() * w[0].double()
    return _kinked("a jump of curvature", draw, energy, theta, w, answer, draw.normal(1, 2))


def group_norm(draw: Draw, index: int) -> Problem:
    """½ ‖y − θ‖² + ‖y‖ at θ = 0 and y = 0, where λ* = 0 stays."""
    size = 2 + index % 3
    zero, w = draw.zeros(size), draw.normal(1, size)
    energy = _near_and(lambda y: vector_norm(y, dim=-1))
    return _kinked("exactly on ‖y‖", draw, energy, zero, w, zero.double(), zero[None].clone())


def relu_network(draw: Draw, index: int) -> Problem:
    """½ ‖θ − W₂ relu(W₁y)‖² + ½ ‖y‖² at y = 0: all units at their kinks, the slope "0".

    θ is an output of the network, so that there is a way down and y = 0 is no minimiser.
    """
    size = 2 + index % 2
    first, second = draw.normal(8, size), draw.normal(6, 8)
    theta = second @ (first @ (2.0 * draw.normal(size))).relu()

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        mean = (y @ first.to(y).mT).relu() @ second.to(y).mT
        return _near(mean, theta) + 0.5 * y.square().sum(dim=-1)

    w, start = draw.normal(1, size), draw.zeros(1, size)
    return _kinked("exactly on all kinks of a network", draw, energy, theta, w, None, start)


KINKS: dict[str, Kind] = {
    build.__name__: build
    for build in (soft_threshold, on_absolute, relu_edge, on_relu, tied_maximum, fused_pair,
                  curvature_jump, group_norm, relu_network)
}  # fmt: skip


@FAMILIES.register("kink")
def kinks(seed: int) -> list[Problem]:
    """|y|, relu, max and their like at the solution, with the solve on the kink or around it.

    A Hessian on one side is not the whole story there.
    """
    return [KINKS[name](draw, index) for name, index, draw in each(seed, 9, KINKS, 5)]


def logarithm(draw: Draw, index: int) -> Problem:
    """Σ y − e^θ log y with a step that may leave y > 0; λ* = e^θ."""
    size = 1 + index % 3
    theta, w = 0.5 * draw.normal(size), draw.normal(1, size)
    init, answer = draw.uniform(1, size, low=2.0, high=4.0), theta.double().exp() * w[0].double()

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        return (y - theta.exp() * y.log()).sum(dim=-1)

    name = f"a step out of the domain of log, {draw.dtype}"
    return Problem(name, energy, theta, init, w, 2.0 + index, 100, answer)


def overflow(draw: Draw, index: int, thrown: bool = False) -> Problem:
    """Σ exp(4y) − e^θ y in float32; λ* = ¼(θ − log 4).

    Started where exp(4y) is not finite; or, ``thrown``, where it is finite, with a first step to
    where exp(4y) underflows.
    """
    w, theta = draw.normal(1, 2), draw.normal(2)
    init, answer = 23.0 + draw.uniform(1, 2), 0.25 * w[0].double()

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        return ((4.0 * y).exp() - theta.exp() * y).sum(dim=-1)

    if thrown:
        name, init = "exp throws the first step far away", init - 22.0 + 0.2 * index
        return Problem(name, energy, theta, init, w, 0.3, 100, answer)
    return Problem("exp overflows at the start", energy, theta, init, w, 0.01, 100, answer)


def first_step_overflow(draw: Draw, index: int) -> Problem:
    """See :func:`overflow`."""
    return overflow(draw, index, thrown=True)


def norm_at_zero(draw: Draw, index: int) -> Problem:
    """½‖y − θ‖² + √Σy², started at y = 0, where the gradient of √ is NaN; ‖θ‖ > 1.

    λ* = θ (1 − 1/‖θ‖).
    """
    size = 2 + index % 3
    theta, w = draw.normal(size), draw.normal(1, size)
    theta = (1.5 + index) * theta / theta.norm()
    t, v, norm = theta.double(), w[0].double(), theta.double().norm()
    answer = v * (1.0 - 1.0 / norm) + t * (t @ v) / norm**3
    energy, init = _near_and(lambda y: y.square().sum(dim=-1).sqrt()), draw.zeros(1, size)
    return Problem(f"√Σy² at y = 0, {draw.dtype}", energy, theta, init, w, 0.3, 100, answer)


def masked_logarithm(draw: Draw, index: int) -> Problem:
    """½(y − θ)² + where(y > 0, y log y, 0), started at y < 0: where() hides a NaN gradient."""
    size = 1 + index % 2
    root = draw.uniform(size, low=1.0, high=2.0)
    # Stationary at y = root: y − θ + log y + 1 = 0.
    theta, w = root + root.log() + 1.0, draw.normal(1, size)

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        entropy = torch.where(y > 0, y * y.log(), torch.zeros_like(y))
        return (0.5 * (y - theta).square() + entropy).sum(dim=-1)

    init = -draw.uniform(1, size, low=0.5, high=1.0)
    answer = w[0].double() / (1.0 + 1.0 / root.double())
    name = f"a NaN behind where(), {draw.dtype}"
    return Problem(name, energy, theta, init, w, 0.3, 100, answer)


def plateau(draw: Draw, index: int) -> Problem:
    """−Σ exp(−½ (y − θ)²) in float32, started 12 to 16 away, where value and slope underflow."""
    w, theta = draw.normal(1, 2), draw.normal(2)
    init = theta[None] + (12.0 + index) * draw.signs(1, 2)

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        return -(-0.5 * (y - theta).square()).exp().sum(dim=-1)

    name = f"slope underflows {12 + index} widths away"
    return Problem(name, energy, theta, init, w, 1.0, 100, w[0].double())


def root_at_zero(draw: Draw, index: int) -> Problem:
    """½ ‖y − √θ‖² at θ₁ = 0: λ* = √θ has an infinite derivative there."""
    size = 1 + index % 3
    theta = draw.uniform(size, low=0.5, high=2.0)
    theta[0] = 0.0
    init, w = draw.normal(1, size), draw.normal(1, size)

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        return _near(y, theta.sqrt())

    return Problem(f"√θ at θ = 0, {draw.dtype}", energy, theta, init, w, 0.5, 100, None)


#: With the float type of those that have no other.
NOT_FINITE: dict[Kind, torch.dtype | None] = {
    logarithm: None,
    overflow: torch.float32,
    first_step_overflow: torch.float32,
    norm_at_zero: None,
    masked_logarithm: None,
    plateau: torch.float32,
    root_at_zero: None,
}


@FAMILIES.register("not_finite")
def not_finite(seed: int) -> list[Problem]:
    """Overflow, underflow, NaN at the start or on the way, an infinite derivative."""
    return [
        build(Draw(seed, 8, kind, index, dtype=dtype or alternate(index)), index)
        for (kind, (build, dtype)), index in product(enumerate(NOT_FINITE.items()), range(5))
    ]
