"""Families whose solve ends at a saddle, or whose minimisers are not alone.

A kind of problem is a function of random numbers and an index; its energy is in its first line.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.linalg import matrix_norm

from benchmarks.safety.energies import least_squares
from benchmarks.safety.problem import FAMILIES, Draw, Problem, Smooth, each


def _double_well(draw: Draw, size: int) -> Smooth:
    """½ Σ a_i (y_i − θ_i)² + ¼u⁴ − ½u² + 0.2 θ₁ y₁ u² with u = y_P, started at u = 0."""
    a = draw.uniform(size - 1, low=0.5, high=2.0)

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        rest, u = y[:, :-1], y[:, -1]
        bowl = 0.5 * (a.to(y) * (rest - theta).square()).sum(dim=-1)
        wells = 0.25 * u.pow(4) - 0.5 * u.square()
        return bowl + wells + 0.2 * u.square() * rest[:, 0] * theta[0]

    start = torch.cat([draw.normal(1, size - 1), draw.zeros(1, 1)], dim=-1)
    return Smooth(energy, 0.5 * draw.normal(size - 1), start)


def on_the_ridge(draw: Draw, index: int) -> Smooth:
    """Started on the ridge between two wells, where the slope across it is exactly 0."""
    return _double_well(draw, 2 + index % 3)


def past_a_saddle(draw: Draw, index: int) -> Smooth:
    """Started a little beside the ridge: the descent lingers at the saddle before it turns."""
    smooth = _double_well(draw, 2 + index % 3)
    smooth.init[:, -1] = 1e-2 * 10.0 ** -(index / 2)
    return smooth


def maximum(draw: Draw, index: int) -> Smooth:
    """¼‖y‖⁴ − ½‖y‖² − θᵀy at θ = 0, started at its top."""

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        square = y.square().sum(dim=-1)
        return 0.25 * square.square() - 0.5 * square - y @ theta

    zero = draw.zeros(1, 1 + index % 3)
    return Smooth(energy, zero[0], zero)


def between_modes(draw: Draw, index: int) -> Smooth:
    """−log of a mixture of two Gaussians with means ±m + θ, started half-way between them."""
    size = 1 + index % 3
    mean = draw.normal(size)
    mean = (1.5 + 0.5 * index) * mean / mean.norm()

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        distances = torch.stack([(y - theta - s * mean).square().sum(dim=-1) for s in (-1, 1)])
        return -torch.logsumexp(-0.5 * distances, dim=0)

    theta = draw.normal(size)
    return Smooth(energy, theta, theta[None].clone())


def zero_weights(draw: Draw, index: int) -> Smooth:
    """½ Σ (t − v tanh(ux))², a network with all weights at 0: a saddle in (u, v)."""
    x = draw.uniform(4, low=0.5, high=2.0)

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        u, v = y[:, :1], y[:, 1:]
        return 0.5 * (theta - v * torch.tanh(u * x)).square().sum(dim=-1)

    return Smooth(energy, x + 0.1 * draw.normal(4), draw.zeros(1, 2))


SADDLES: dict[str, Callable[[Draw, int], Smooth]] = {
    "on the ridge between two wells": on_the_ridge,
    "past a saddle": past_a_saddle,
    "at a maximum": maximum,
    "between two modes": between_modes,
    "all weights at 0": zero_weights,
}


@FAMILIES.register("saddle")
def saddles(seed: int) -> list[Problem]:
    """Solves that end at a saddle or a maximum, or linger near one.

    At a saddle a formula for stationary points yields a derivative, but not one of a minimiser:
    what was asked for does not exist there. A solve that is on its way past a saddle has a
    minimiser ahead, whose derivative is the right answer.
    """
    problems = []
    for kind, index, draw in each(seed, 5, SADDLES, 6):
        smooth, ahead = SADDLES[kind](draw, index), kind == "past a saddle"
        name = f"{kind}, P = {smooth.init.shape[1]}, {draw.dtype}"
        options = {"lr": 0.2, "rtol": 1e-2, "max_steps": 60 if ahead else 100}
        problems.append(smooth.problem(name, draw, answered=ahead, **options))
    return problems


def underdetermined(draw: Draw, index: int) -> tuple[Smooth, float]:
    """½ ‖Ay − θ‖² with fewer equations than unknowns."""
    size = 3 + index
    a = draw.normal(size - 1 - index // 2, size)
    smooth = Smooth(least_squares(a), draw.normal(len(a)), draw.normal(1, size))
    return smooth, 1.0 / float(matrix_norm(a, 2)) ** 2


def logits(draw: Draw, index: int) -> tuple[Smooth, float]:
    """Cross entropy to softmax(θ) in the logits y: adding a constant to y changes nothing."""

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        return -(theta.softmax(dim=-1) * y.log_softmax(dim=-1)).sum(dim=-1)

    return Smooth(energy, draw.normal(3 + index), draw.normal(1, 3 + index)), 2.0


def unused(draw: Draw, index: int) -> tuple[Smooth, float]:
    """Least squares that does not look at the last variable."""
    a = draw.normal(4, 2 + index % 3)
    theta, init, energy = draw.normal(4), draw.normal(1, a.shape[1] + 1), least_squares(a)
    smooth = Smooth(lambda y, theta: energy(y[:, :-1], theta), theta, init)
    return smooth, 1.0 / float(matrix_norm(a, 2)) ** 2


def factorisation(draw: Draw, index: int) -> tuple[Smooth, float]:
    """½ ‖uvᵀ − M(θ)‖² with M of rank 1: u may be scaled up and v down."""
    size = 2 + index % 2
    left, right = draw.uniform(size, low=0.5, high=1.5), draw.uniform(size, low=0.5, high=1.5)

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        u, v = y.chunk(2, dim=-1)
        target = theta[:size, None] * theta[size:]
        return 0.5 * (u[:, :, None] * v[:, None, :] - target).square().sum(dim=(-2, -1))

    return Smooth(energy, torch.cat([left, right]), 1.0 + 0.3 * draw.normal(1, 2 * size)), 0.1


def sphere(draw: Draw, index: int) -> tuple[Smooth, float]:
    """¼ (‖y‖² − e^θ)²: the minimisers are a sphere."""

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        return 0.25 * (y.square().sum(dim=-1) - theta[0].exp()).square()

    return Smooth(energy, draw.normal(1), draw.normal(1, 2 + index)), 0.1


def quartic(draw: Draw, index: int) -> tuple[Smooth, float]:
    """¼ Σ y⁴ − θᵀy at θ = 0: λ* = θ^⅓ has an infinite derivative."""
    size = 1 + index
    start = draw.uniform(1, size, low=0.5, high=1.5)
    return Smooth(lambda y, t: 0.25 * y.pow(4).sum(dim=-1) - y @ t, draw.zeros(size), start), 0.3


SINGULAR: dict[str, Callable[[Draw, int], tuple[Smooth, float]]] = {
    "underdetermined least squares": underdetermined,
    "logits": logits,
    "an unused variable": unused,
    "rank-1 factorisation": factorisation,
    "a sphere of minimisers": sphere,
    "quartic": quartic,
}


@FAMILIES.register("singular")
def singular(seed: int) -> list[Problem]:
    """Whole lines or spheres of minimisers, and one whose derivative is infinite.

    The Hessian is singular, and λ* has no derivative.
    """
    problems = []
    for kind, index, draw in each(seed, 4, SINGULAR, 5):
        smooth, lr = SINGULAR[kind](draw, index)
        name = f"{kind}, P = {smooth.init.shape[1]}, {draw.dtype}"
        problems.append(smooth.problem(name, draw, lr=lr, max_steps=500, rtol=1e-4, answered=False))
    return problems
