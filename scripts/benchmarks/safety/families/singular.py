"""Minimisers that are not alone: the Hessian is singular and λ* has no derivative."""

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.safety.energies import Smooth
from benchmarks.safety.problem import FAMILIES, Draw, Problem, alternate

REPEATS = 5


def underdetermined(draw: Draw, index: int) -> tuple[Smooth, float]:
    """½ ‖Ay − θ‖² with fewer equations than unknowns."""
    size = 3 + index
    a = draw.normal(size - 1 - index // 2, size)

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        return 0.5 * (y @ a.mT - theta).square().sum(dim=-1)

    smooth = Smooth(energy, draw.normal(len(a)), draw.normal(1, size))
    return smooth, 1.0 / float(torch.linalg.matrix_norm(a, 2)) ** 2


def logits(draw: Draw, index: int) -> tuple[Smooth, float]:
    """Cross entropy to softmax(θ) in the logits y: adding a constant to y changes nothing."""

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        return -(theta.softmax(dim=-1) * y.log_softmax(dim=-1)).sum(dim=-1)

    return Smooth(energy, draw.normal(3 + index), draw.normal(1, 3 + index)), 2.0


def unused(draw: Draw, index: int) -> tuple[Smooth, float]:
    """Least squares that does not look at the last variable."""
    a = draw.normal(4, 2 + index % 3)

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        return 0.5 * (y[:, :-1] @ a.mT - theta).square().sum(dim=-1)

    smooth = Smooth(energy, draw.normal(4), draw.normal(1, a.shape[1] + 1))
    return smooth, 1.0 / float(torch.linalg.matrix_norm(a, 2)) ** 2


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

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        return 0.25 * y.pow(4).sum(dim=-1) - y @ theta

    start = draw.uniform(1, size, low=0.5, high=1.5)
    return Smooth(energy, torch.zeros(size, dtype=draw.dtype), start), 0.3


KINDS: dict[str, Callable[[Draw, int], tuple[Smooth, float]]] = {
    "underdetermined least squares": underdetermined,
    "logits": logits,
    "an unused variable": unused,
    "rank-1 factorisation": factorisation,
    "a sphere of minimisers": sphere,
    "quartic": quartic,
}


@FAMILIES.register("singular")
def singular(seed: int) -> list[Problem]:
    """Whole lines or spheres of minimisers, and one whose derivative is infinite."""
    problems = []
    for kind, (name, build) in enumerate(KINDS.items()):
        for index in range(REPEATS):
            draw = Draw(seed, 4, kind, index, dtype=alternate(index))
            smooth, lr = build(draw, index)
            problems.append(
                Problem(
                    name=f"{name}, P = {smooth.init.shape[1]}, {draw.dtype}",
                    energy=smooth.energy,
                    theta=smooth.theta,
                    init=smooth.init,
                    cotangent=draw.normal(*smooth.init.shape),
                    lr=lr,
                    max_steps=500,
                    rtol=1e-4,
                    answer=None,
                )
            )
    return problems
