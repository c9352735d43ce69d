"""Energies or gradients that are not finite where the solve passes, or that underflow to 0."""

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.safety.problem import FAMILIES, Draw, Problem, alternate

REPEATS = 5


def logarithm(draw: Draw, index: int) -> Problem:
    """Σ y − e^θ log y with a step that may leave y > 0; λ* = e^θ."""
    size = 1 + index % 3

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        return (y - theta.exp() * y.log()).sum(dim=-1)

    theta, w = 0.5 * draw.normal(size), draw.normal(1, size)
    return Problem(
        name=f"a step out of the domain of log, {draw.dtype}",
        energy=energy,
        theta=theta,
        init=draw.uniform(1, size, low=2.0, high=4.0),
        cotangent=w,
        lr=2.0 + index,
        max_steps=100,
        answer=theta.double().exp() * w[0].double(),
    )


def overflow(draw: Draw, index: int) -> Problem:
    """Σ exp(4y) − e^θ y in float32, started where exp(4y) is not finite; λ* = ¼(θ − log 4)."""
    w = draw.normal(1, 2)

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        return ((4.0 * y).exp() - theta.exp() * y).sum(dim=-1)

    return Problem(
        name="exp overflows at the start",
        energy=energy,
        theta=draw.normal(2),
        init=23.0 + draw.uniform(1, 2),
        cotangent=w,
        lr=0.01,
        max_steps=100,
        answer=0.25 * w[0].double(),
    )


def first_step_overflow(draw: Draw, index: int) -> Problem:
    """The same, started where it is finite, with a first step to where exp(4y) underflows."""
    problem = overflow(draw, index)
    return Problem(
        name="exp throws the first step far away",
        energy=problem.energy,
        theta=problem.theta,
        init=problem.init - 22.0 + 0.2 * index,
        cotangent=problem.cotangent,
        lr=0.3,
        max_steps=100,
        answer=problem.answer,
    )


def norm_at_zero(draw: Draw, index: int) -> Problem:
    """½‖y − θ‖² + √Σy², started at y = 0, where the gradient of √ is NaN; ‖θ‖ > 1."""
    size = 2 + index % 3
    theta, w = draw.normal(size), draw.normal(1, size)
    theta = (1.5 + index) * theta / theta.norm()

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        return 0.5 * (y - theta).square().sum(dim=-1) + y.square().sum(dim=-1).sqrt()

    # λ* = θ (1 − 1/‖θ‖).
    t, v = theta.double(), w[0].double()
    norm = t.norm()
    return Problem(
        name=f"√Σy² at y = 0, {draw.dtype}",
        energy=energy,
        theta=theta,
        init=torch.zeros(1, size, dtype=draw.dtype),
        cotangent=w,
        lr=0.3,
        max_steps=100,
        answer=v * (1.0 - 1.0 / norm) + t * (t @ v) / norm**3,
    )


def masked_logarithm(draw: Draw, index: int) -> Problem:
    """½(y − θ)² + where(y > 0, y log y, 0), started at y < 0: where() hides a NaN gradient."""
    size = 1 + index % 2
    root = draw.uniform(size, low=1.0, high=2.0)
    # Stationary at y = root: y − θ + log y + 1 = 0.
    theta, w = root + root.log() + 1.0, draw.normal(1, size)

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        entropy = torch.where(y > 0, y * y.log(), torch.zeros_like(y))
        return (0.5 * (y - theta).square() + entropy).sum(dim=-1)

    return Problem(
        name=f"a NaN behind where(), {draw.dtype}",
        energy=energy,
        theta=theta,
        init=-draw.uniform(1, size, low=0.5, high=1.0),
        cotangent=w,
        lr=0.3,
        max_steps=100,
        answer=w[0].double() / (1.0 + 1.0 / root.double()),
    )


def plateau(draw: Draw, index: int) -> Problem:
    """−Σ exp(−½ (y − θ)²) in float32, started 12 to 16 away, where value and slope underflow."""
    w = draw.normal(1, 2)

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        return -(-0.5 * (y - theta).square()).exp().sum(dim=-1)

    theta = draw.normal(2)
    return Problem(
        name=f"slope underflows {12 + index} widths away",
        energy=energy,
        theta=theta,
        init=theta[None] + (12.0 + index) * draw.signs(1, 2),
        cotangent=w,
        lr=1.0,
        max_steps=100,
        answer=w[0].double(),
    )


def root_at_zero(draw: Draw, index: int) -> Problem:
    """½ ‖y − √θ‖² at θ₁ = 0: λ* = √θ has an infinite derivative there."""
    size = 1 + index % 3
    theta = draw.uniform(size, low=0.5, high=2.0)
    theta[0] = 0.0

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        return 0.5 * (y - theta.sqrt()).square().sum(dim=-1)

    return Problem(
        name=f"√θ at θ = 0, {draw.dtype}",
        energy=energy,
        theta=theta,
        init=draw.normal(1, size),
        cotangent=draw.normal(1, size),
        lr=0.5,
        max_steps=100,
        answer=None,
    )


KINDS: dict[Callable[[Draw, int], Problem], torch.dtype | None] = {
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
        for kind, (build, dtype) in enumerate(KINDS.items())
        for index in range(REPEATS)
    ]
