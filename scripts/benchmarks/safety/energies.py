"""Smooth energies J(y; θ) in which nothing is wrong, and stiff ones: what families then spoil."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from benchmarks.reference import Energy
from benchmarks.safety.problem import Draw, Smooth


def penalised(loss: Energy) -> Energy:
    """J = loss(y) + ½ Σ_i exp(θ_i) y_i²: one log-penalty per variable."""
    return lambda y, theta: loss(y, theta) + 0.5 * (theta.exp() * y.square()).sum(dim=-1)


class LinearModel(NamedTuple):
    """Σ_n link(a_nᵀy, t_n) with penalties: a generalised linear model; strictly convex in y."""

    rows: int  # numbers n of data per variable
    scale: float  # of the a_n
    targets: Callable[[Draw, int], Tensor]  # t, drawn
    link: Callable[[Tensor, Tensor], Tensor]  # the loss of a datum
    penalty: float  # the mean of θ

    def __call__(self, draw: Draw, size: int, start: float = 1.0) -> Smooth:
        """In so many variables, from a start of that size."""
        a = self.scale * draw.normal(self.rows * size, size) / size**0.5
        t = self.targets(draw, self.rows * size)
        energy = penalised(lambda y, _: self.link(y @ a.to(y).mT, t.to(y)).sum(dim=-1))
        theta = 0.3 * draw.normal(size) + self.penalty
        return Smooth(energy, theta, start * draw.normal(1, size))


def softplus_energy(draw: Draw, size: int, start: float = 1.0) -> Smooth:
    """Σ_m softplus(2 a_mᵀy) + ½‖y‖² − θᵀy."""
    a = draw.normal(2 * size, size) / size**0.5

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        convex = softplus(2.0 * y @ a.to(y).mT).sum(dim=-1) + 0.5 * y.square().sum(dim=-1)
        return convex - y @ theta

    return Smooth(energy, 2.0 * draw.normal(size), start * draw.normal(1, size))


def decoder(draw: Draw, size: int, start: float = 1.0) -> Smooth:
    """½‖x − W₂ tanh(W₁y + θ)‖²/γ + ½‖y‖²: MAP inference in a small decoder, γ = 1."""
    first = draw.normal(2 * size, size) / size**0.5
    second = draw.normal(3 * size, 2 * size) / (2.0 * size) ** 0.5
    x = draw.normal(3 * size)

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        mean = torch.tanh(y @ first.to(y).mT + theta) @ second.to(y).mT
        return 0.5 * ((x.to(y) - mean).square().sum(dim=-1) + y.square().sum(dim=-1))

    return Smooth(energy, 0.5 * draw.normal(2 * size), 0.5 * start * draw.normal(1, size))


def _normal_targets(draw: Draw, n: int) -> Tensor:
    return 2.0 * draw.normal(n)


def _uniform_targets(draw: Draw, n: int) -> Tensor:
    return draw.uniform(n, high=3.0)


def _log_cosh(r: Tensor, t: Tensor) -> Tensor:
    """And log 2, without overflow."""
    return (r - t) + softplus(-2.0 * (r - t))


#: Quadratic first; all others are not.
ENERGIES: dict[str, Callable[[Draw, int, float], Smooth]] = {
    "ridge": LinearModel(2, 1.0, _normal_targets, lambda r, b: 0.5 * (r - b).square(), 0.0),
    "logistic": LinearModel(4, 2.0, Draw.signs, lambda r, t: softplus(-t * r), -1.0),
    "Poisson": LinearModel(2, 1.0, _uniform_targets, lambda r, c: r.exp() - c * r, 0.0),
    "log-cosh": LinearModel(3, 1.5, _normal_targets, _log_cosh, -1.0),
    "softplus": softplus_energy,
    "decoder": decoder,
}

#: Those whose Hessian changes with y, so that it matters where a solve ends.
NONLINEAR = {name: build for name, build in ENERGIES.items() if name != "ridge"}


def least_squares(a: Tensor) -> Energy:
    """J = ½ ‖Ay − θ‖²: with H = AᵀA the condition number of A counts twice."""
    return lambda y, theta: 0.5 * (y @ a.to(y).mT - theta).square().sum(dim=-1)


def rotated(draw: Draw, condition: float) -> Smooth:
    """Least squares with singular values from 1 down to κ^−½ along random axes."""
    spectrum = torch.logspace(0.0, -0.5, 4, base=condition)
    a = draw.rotation(6)[:, :4] * spectrum @ draw.rotation(4).mT
    return Smooth(least_squares(a), draw.normal(6), draw.normal(1, 4))


def polynomial(draw: Draw, condition: float) -> Smooth:
    """A polynomial fitted to points that crowd together, all monomials in use."""
    points = 1.0 + condition ** (-1.0 / 6.0) * torch.linspace(-1.0, 1.0, 8)
    a = torch.stack([points**power for power in range(4)], dim=-1)
    return Smooth(least_squares(a), draw.normal(8), draw.normal(1, 4))


def units(draw: Draw, condition: float) -> Smooth:
    """Features measured in units that differ by up to √κ."""
    a = draw.normal(8, 4) * torch.logspace(0.0, -0.5, 4, base=condition)
    return Smooth(least_squares(a), draw.normal(8), draw.normal(1, 4))


def hardly_penalised(draw: Draw, condition: float) -> Smooth:
    """Fewer equations than unknowns, and penalties of 1/κ."""
    a, b = draw.normal(2, 4), draw.normal(2)
    energy = penalised(lambda y, _: 0.5 * (y @ a.to(y).mT - b.to(y)).square().sum(dim=-1))
    theta = torch.full((4,), 1.0 / condition).log() + 0.3 * draw.normal(4)
    return Smooth(energy, theta, draw.normal(1, 4))


def separable(draw: Draw, condition: float) -> Smooth:
    """Logistic regression on separable data, held back by penalties of 1/κ alone."""
    a, truth = draw.normal(8, 3), draw.normal(3)
    t = torch.where(a @ truth > 0, 1.0, -1.0)
    energy = penalised(lambda y, _: softplus(-t.to(y) * (y @ a.to(y).mT)).sum(dim=-1))
    theta = torch.full((3,), 1.0 / condition).log() + 0.3 * draw.normal(3)
    return Smooth(energy, theta, draw.normal(1, 3))


#: Quadratic energies of a given condition number κ, to be solved by Newton's method.
STIFF: dict[str, Callable[[Draw, float], Smooth]] = {
    "rotated least squares": rotated,
    "polynomial fit": polynomial,
    "features in mixed units": units,
    "hardly penalised": hardly_penalised,
}
