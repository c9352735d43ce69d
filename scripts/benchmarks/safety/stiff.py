"""Quadratic energies of a given condition number κ, to be solved by Newton's method."""

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.reference import Energy
from benchmarks.safety.energies import Smooth, penalised
from benchmarks.safety.problem import Draw


def least_squares(a: Tensor) -> Energy:
    """J = ½ ‖Ay − θ‖²: with H = AᵀA the condition number of A counts twice."""

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        return 0.5 * (y @ a.to(y).mT - theta).square().sum(dim=-1)

    return energy


def rotated(draw: Draw, condition: float) -> Smooth:
    """Least squares with singular values from 1 down to κ^−½ along random axes."""
    spectrum = torch.logspace(0.0, -0.5, 4, base=condition)
    a = draw.rotation(6)[:, :4] * spectrum @ draw.rotation(4).mT
    return Smooth(least_squares(a), draw.normal(6), draw.normal(1, 4))


def polynomial(draw: Draw, condition: float) -> Smooth:
    """A polynomial fitted to points that crowd together, all monomials in use."""
    width = condition ** (-1.0 / 6.0)
    points = 1.0 + width * torch.linspace(-1.0, 1.0, 8)
    a = torch.stack([points**power for power in range(4)], dim=-1)
    return Smooth(least_squares(a), draw.normal(8), draw.normal(1, 4))


def units(draw: Draw, condition: float) -> Smooth:
    """Features measured in units that differ by up to √κ."""
    a = draw.normal(8, 4) * torch.logspace(0.0, -0.5, 4, base=condition)
    return Smooth(least_squares(a), draw.normal(8), draw.normal(1, 4))


def hardly_penalised(draw: Draw, condition: float) -> Smooth:
    """Fewer equations than unknowns, and penalties of 1/κ."""
    a, b = draw.normal(2, 4), draw.normal(2)

    def loss(y: Tensor, theta: Tensor) -> Tensor:
        return 0.5 * (y @ a.to(y).mT - b.to(y)).square().sum(dim=-1)

    theta = torch.full((4,), 1.0 / condition).log() + 0.3 * draw.normal(4)
    return Smooth(penalised(loss), theta, draw.normal(1, 4))


STIFF: dict[str, Callable[[Draw, float], Smooth]] = {
    "rotated least squares": rotated,
    "polynomial fit": polynomial,
    "features in mixed units": units,
    "hardly penalised": hardly_penalised,
}
