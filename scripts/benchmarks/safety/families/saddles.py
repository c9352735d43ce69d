"""Solves that end at a saddle or a maximum, or linger near one.

At a saddle a formula for stationary points yields a derivative, but not one of a minimiser: what
was asked for does not exist there. A solve that is on its way past a saddle has a minimiser ahead,
whose derivative is the right answer.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.safety.energies import Smooth
from benchmarks.safety.problem import FAMILIES, Draw, Problem, alternate, implicit_answer

REPEATS = 6


def _double_well(draw: Draw, size: int) -> Smooth:
    """½ Σ a_i (y_i − θ_i)² + ¼u⁴ − ½u² + 0.2 θ₁ y₁ u² with u = y_P, started at u = 0."""
    a = draw.uniform(size - 1, low=0.5, high=2.0)

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        rest, u = y[:, :-1], y[:, -1]
        bowl = 0.5 * (a.to(y) * (rest - theta).square()).sum(dim=-1)
        wells = 0.25 * u.pow(4) - 0.5 * u.square()
        return bowl + wells + 0.2 * u.square() * rest[:, 0] * theta[0]

    start = torch.cat([draw.normal(1, size - 1), torch.zeros(1, 1, dtype=draw.dtype)], dim=-1)
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
    size = 1 + index % 3

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        square = y.square().sum(dim=-1)
        return 0.25 * square.square() - 0.5 * square - y @ theta

    zero = torch.zeros(1, size, dtype=draw.dtype)
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

    return Smooth(energy, x + 0.1 * draw.normal(4), torch.zeros(1, 2, dtype=draw.dtype))


KINDS: dict[str, Callable[[Draw, int], Smooth]] = {
    "on the ridge between two wells": on_the_ridge,
    "past a saddle": past_a_saddle,
    "at a maximum": maximum,
    "between two modes": between_modes,
    "all weights at 0": zero_weights,
}


@FAMILIES.register("saddle")
def saddles(seed: int) -> list[Problem]:
    """Indefinite Hessians at a point that passes for stationary."""
    problems = []
    for kind, (name, build) in enumerate(KINDS.items()):
        for index in range(REPEATS):
            draw = Draw(seed, 5, kind, index, dtype=alternate(index))
            smooth = build(draw, index)
            w = draw.normal(*smooth.init.shape)
            ahead = build is past_a_saddle
            problems.append(
                Problem(
                    name=f"{name}, P = {smooth.init.shape[1]}, {draw.dtype}",
                    energy=smooth.energy,
                    theta=smooth.theta,
                    init=smooth.init,
                    cotangent=w,
                    lr=0.2,
                    max_steps=60 if ahead else 100,
                    rtol=1e-2,
                    answer=implicit_answer(smooth.energy, smooth.theta, smooth.init, w)
                    if ahead
                    else None,
                )
            )
    return problems
