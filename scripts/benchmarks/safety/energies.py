"""Smooth energies J(y; θ) in which nothing is wrong: what the families then spoil."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from benchmarks.reference import Energy, hessian, minimiser
from benchmarks.safety.problem import Draw


@dataclass(frozen=True)
class Smooth:
    """An energy with parameters θ [Q] and a start λ0 [1, P].

    All are strictly convex in y, but for the decoder. As functions of y given θ, all data are
    fixed numbers.
    """

    energy: Energy
    theta: Float[Tensor, " Q"]
    init: Float[Tensor, "1 P"]

    def curvature(self) -> float:
        """The largest one at λ0, at λ* and half-way: gradient descent converges up to 2 over it."""
        theta, init = self.theta.double(), self.init.double()
        solution = minimiser(self.energy, theta, init)
        points = (init, 0.5 * (init + solution), solution)
        return max(
            float(torch.linalg.eigvalsh(hessian(self.energy, y, theta)).max()) for y in points
        )

    def safe_step(self) -> float:
        """A step size with which gradient descent converges."""
        return 0.8 / self.curvature()


def penalised(loss: Energy) -> Energy:
    """J = loss(y) + ½ Σ_i exp(θ_i) y_i²: one log-penalty per variable."""

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        return loss(y, theta) + 0.5 * (theta.exp() * y.square()).sum(dim=-1)

    return energy


def ridge(draw: Draw, size: int, start: float = 1.0) -> Smooth:
    """½ ‖Ay − b‖² with penalties."""
    a, b = draw.normal(2 * size, size) / size**0.5, 2.0 * draw.normal(2 * size)

    def loss(y: Tensor, theta: Tensor) -> Tensor:
        return 0.5 * (y @ a.to(y).mT - b.to(y)).square().sum(dim=-1)

    return Smooth(penalised(loss), 0.3 * draw.normal(size), start * draw.normal(1, size))


def logistic(draw: Draw, size: int, start: float = 1.0) -> Smooth:
    """Σ_n log(1 + exp(−t_n a_nᵀy)) with penalties: logistic regression."""
    a, t = 2.0 * draw.normal(4 * size, size) / size**0.5, draw.signs(4 * size)

    def loss(y: Tensor, theta: Tensor) -> Tensor:
        return softplus(-t.to(y) * (y @ a.to(y).mT)).sum(dim=-1)

    return Smooth(penalised(loss), 0.3 * draw.normal(size) - 1.0, start * draw.normal(1, size))


def poisson(draw: Draw, size: int, start: float = 1.0) -> Smooth:
    """Σ_n exp(a_nᵀy) − c_n a_nᵀy with penalties: Poisson regression."""
    a, c = draw.normal(2 * size, size) / size**0.5, draw.uniform(2 * size, high=3.0)

    def loss(y: Tensor, theta: Tensor) -> Tensor:
        rates = y @ a.to(y).mT
        return (rates.exp() - c.to(y) * rates).sum(dim=-1)

    return Smooth(penalised(loss), 0.3 * draw.normal(size), start * draw.normal(1, size))


def log_cosh(draw: Draw, size: int, start: float = 1.0) -> Smooth:
    """Σ_n log cosh(a_nᵀy − b_n) with penalties: smooth robust regression."""
    a, b = 1.5 * draw.normal(3 * size, size) / size**0.5, 2.0 * draw.normal(3 * size)

    def loss(y: Tensor, theta: Tensor) -> Tensor:
        residual = y @ a.to(y).mT - b.to(y)
        # log cosh r + log 2, which does not overflow.
        return (residual + softplus(-2.0 * residual)).sum(dim=-1)

    return Smooth(penalised(loss), 0.3 * draw.normal(size) - 1.0, start * draw.normal(1, size))


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


#: Quadratic first; all others are not.
ENERGIES: dict[str, Callable[[Draw, int, float], Smooth]] = {
    "ridge": ridge,
    "logistic": logistic,
    "Poisson": poisson,
    "log-cosh": log_cosh,
    "softplus": softplus_energy,
    "decoder": decoder,
}

#: Those whose Hessian changes with y, so that it matters where a solve ends.
NONLINEAR = {name: build for name, build in ENERGIES.items() if name != "ridge"}
