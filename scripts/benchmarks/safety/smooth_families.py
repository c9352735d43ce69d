"""Families of smooth problems: well-posed, ill-conditioned, or with a solve that goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor
from torch.nn.functional import softplus

from benchmarks.safety.energies import ENERGIES, NONLINEAR, STIFF, hardly_penalised, separable
from benchmarks.safety.problem import CONTROL, FAMILIES, Draw, Problem, Smooth, alternate, descend

#: Penalties that are linear between λ0 and λ*, which lie at least 1 from any kink: dλ* = dθ.
KINKED: dict[str, Callable[[Tensor], Tensor]] = {
    "|y|": lambda y: y.abs().sum(dim=-1),
    "relu": lambda y: y.relu().sum(dim=-1),
    "max": lambda y: y.amax(dim=-1),
    "|y₁ − y₂|": lambda y: (y[:, 0] - y[:, 1]).abs(),
}


@FAMILIES.register(CONTROL)
def well_posed(seed: int) -> list[Problem]:
    """Every smooth energy in 1 to 8 variables; stiff ones in float64; kinks that are far away.

    Solved to 1e-5 in float32 and 1e-6 in float64; the stiff ones, with condition numbers that
    float64 has digits for, to 1e-9.
    """
    problems = []
    for kind, (name, build) in enumerate(ENERGIES.items()):
        for index, size in enumerate(2 * (1, 2, 3, 4, 5, 6, 8)):
            draw = Draw(seed, 0, kind, index, dtype=alternate(index + kind))
            rtol = 1e-5 if draw.dtype == torch.float32 else 1e-6
            name_ = f"{name}, P = {size}, {draw.dtype}"
            problems.append(build(draw, size, 1.0).problem(name_, draw, rtol=rtol))
    for kind, (name, stiff) in enumerate(STIFF.items()):
        draw = Draw(seed, 10, kind)
        smooth = stiff(draw, 1e4)
        problems.append(smooth.problem(f"{name}, κ = 1e+04", draw, newton=True, rtol=1e-9))
    for (kind, name), index in product(enumerate(KINKED), range(3)):
        problems.append(_far_from_kink(name, Draw(seed, 11, kind, index, dtype=alternate(index))))
    return problems


def _far_from_kink(name: str, draw: Draw) -> Problem:
    """½ ‖y − θ‖² + penalty(y), with entries of θ more than 3 apart, and more than 2 from 0."""
    penalty, w = KINKED[name], draw.normal(1, 3)
    theta = torch.tensor([4.0, 8.0, -4.0], dtype=draw.dtype) + draw.uniform(3)
    init = theta[None] + draw.uniform(1, 3, low=-1.0)

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        return 0.5 * (y - theta).square().sum(dim=-1) + penalty(y)

    name = f"{name} far from its kink, {draw.dtype}"
    return Problem(name, energy, theta, init, w, 0.2, 200, w[0].double(), rtol=1e-4)


@FAMILIES.register("ill_conditioned")
def ill_conditioned(seed: int) -> list[Problem]:
    """Condition numbers of 1e6 to 1e10 in float32, whose rounding is 6e-8.

    The minimisers exist and are unique. The last two kinds are solved by gradient descent, which
    calls them solved once the stiff directions are: the gradient along the soft ones is too small
    to count.
    """
    kinds = [(name, build, True) for name, build in STIFF.items()]
    kinds += [("hardly penalised", hardly_penalised, False)]
    kinds += [("separable logistic", separable, False)]
    problems = []
    for kind, (name, build, newton) in enumerate(kinds):
        for index, condition in enumerate((1e6, 1e7, 1e8, 1e9, 1e10)):
            draw = Draw(seed, 3, kind, index, dtype=torch.float32)
            name_ = f"{name}, κ = {condition:.0e}" + " by descent" * (not newton)
            steps, smooth = 20 if newton else 300, build(draw, condition)
            problems.append(smooth.problem(name_, draw, max_steps=steps, newton=newton))
    return problems


@FAMILIES.register("stopped_early")
def stopped_early(seed: int) -> list[Problem]:
    """Too few steps: the gradient has fallen by a factor of 3 to 300 when K runs out.

    Energies whose Hessian changes with y; K is the first step at or below each level.
    """
    problems = []
    levels = (0.3, 0.1, 0.05, 0.03, 0.01, 0.003)
    for kind, (name, build) in enumerate(NONLINEAR.items()):
        for index, level in enumerate(2 * levels):
            draw = Draw(seed, 2, kind, index, dtype=alternate(index // len(levels)))
            smooth = build(draw, 2 + index % 4, 2.0)
            name_ = f"{name}, stationarity {level}, {draw.dtype}"
            problem = smooth.problem(name_, draw, max_steps=2000, rtol=level)
            steps = descend(problem, problem.theta).steps
            problems.append(replace(problem, max_steps=steps, rtol=1e-6))
    return problems


@FAMILIES.register("tiny_cotangent")
def tiny_cotangents(seed: int) -> list[Problem]:
    """Well-posed problems in float32 with w of size 1e-20 to 1e-38.

    Their squares underflow, as those of a loss far from its optimum may.
    """
    problems = []
    for kind, name in enumerate(("ridge", "logistic", "softplus", "decoder")):
        for exponent in (20, 24, 28, 32, 36, 38):
            draw = Draw(seed, 1, kind, exponent, dtype=torch.float32)
            size = 2 + exponent % 5
            smooth = ENERGIES[name](draw, size, 1.0)
            w = (10.0**-exponent * draw.normal(1, size).double()).float()
            name_ = f"{name}, w of size 1e-{exponent}"
            problems.append(smooth.problem(name_, draw, cotangent=w, rtol=1e-4))
    return problems


def _separable_data(draw: Draw) -> Smooth:
    """Logistic regression on separable data without a penalty: y runs off to infinity."""
    a, truth = draw.normal(8, 3), draw.normal(3)
    t = torch.where(a @ truth > 0, 1.0, -1.0).to(a)
    return Smooth(
        lambda y, theta: (theta.exp() * softplus(-t * (y @ a.mT))).sum(dim=-1),
        0.3 * draw.normal(8),
        0.3 * draw.normal(1, 3),
    )


def _exponential(draw: Draw) -> Smooth:
    """Σ exp(θ_i − y_i), which falls for ever."""
    theta = draw.normal(2)
    return Smooth(lambda y, theta: (theta - y).exp().sum(dim=-1), theta, draw.normal(1, 2))


def _tilted(draw: Draw) -> Smooth:
    """½ y₁² − θᵀy in three variables: linear in two of them, and unbounded below."""
    theta = draw.normal(3)
    return Smooth(lambda y, theta: 0.5 * y[:, 0].square() - y @ theta, theta, draw.normal(1, 3))


UNBOUNDED: dict[str, Callable[[Draw], Smooth]] = {
    "separable data": _separable_data,
    "exponential": _exponential,
    "linear in part": _tilted,
}


@FAMILIES.register("not_converged")
def not_converged(seed: int) -> list[Problem]:
    """Steps that overshoot, into cycles or away, and energies without a minimiser.

    The former are strictly convex: λ* and its derivative exist, and the solve is not there. Step
    sizes are in units of 1 / the largest curvature; gradient descent converges below 2.
    """
    problems = []
    for kind, name in enumerate(("ridge", "logistic", "log-cosh", "softplus")):
        for index, (factor, start) in enumerate(product((2.5, 4.0, 10.0), (1.0, 10.0))):
            draw = Draw(seed, 6, kind, index, dtype=alternate(index // 2 + index))
            smooth = ENERGIES[name](draw, 1 + index % 4, start)
            name_ = f"{name}, step {factor:g} / curvature, start {start:g}, {draw.dtype}"
            lr, steps = factor / smooth.curvature(), (50, 101)[index % 2]
            problems.append(smooth.problem(name_, draw, lr=lr, max_steps=steps))
    for (kind, (name, build)), index in product(enumerate(UNBOUNDED.items()), range(4)):
        draw = Draw(seed, 7, kind, index, dtype=alternate(index))
        K = 100 * (1 + index)
        name_ = f"{name}, no minimiser, K = {K}, {draw.dtype}"
        problem = build(draw).problem(name_, draw, lr=0.3, max_steps=K, rtol=1e-2, answered=False)
        problems.append(problem)
    return problems


@FAMILIES.register("fast_parameter")
def fast_parameter(seed: int) -> list[Problem]:
    """½(y − a)² + ¼(y − a)⁴ + θ sin(ωy) at θ = 0: λ* = a, and ∂F/∂θ = ω cos(ωy) varies fast.

    λK is right to about 1e-3, and the gradient −Σ w ω cos(ωλK) is not.
    """
    return [
        _fast(omega, Draw(seed, 12, kind, index, dtype=alternate(index)))
        for kind, omega in enumerate((10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0))
        for index in range(6)
    ]


def _fast(omega: float, draw: Draw) -> Problem:
    a, w = draw.uniform(3, low=0.5, high=1.5), draw.normal(1, 3)

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        r = y - a
        return (0.5 * r**2 + 0.25 * r**4 + theta * (omega * y).sin()).sum(dim=-1)

    answer = -(w.double() * omega * (omega * a.double()).cos()).sum().reshape(1)
    start = torch.zeros(1, 3, dtype=draw.dtype)
    theta = torch.zeros(1, dtype=draw.dtype)
    return Problem(f"ω = {omega:g}, {draw.dtype}", energy, theta, start, w, 0.3, 100, answer)


@FAMILIES.register("small_component")
def small_component(seed: int) -> list[Problem]:
    """½r₀² + ½κr₁² − κr₁³ + θy₁ with r = y − c, and a cotangent that hardly sees y₁.

    θ moves y₁ alone, which converges slowly: u = H⁻¹w is right, and its small component, which the
    gradient is, is not.
    """
    return [
        _small(weight, Draw(seed, 13, kind, index, dtype=alternate(index)))
        for kind, weight in enumerate((1e-1, 1e-2, 1e-3, 1e-4))
        for index in range(6)
    ]


def _small(weight: float, draw: Draw) -> Problem:
    c, kappa = draw.uniform(2, low=0.4, high=0.6), 0.1
    w = torch.tensor([[1.0, weight]], dtype=draw.dtype)

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        r = y - c
        slow = kappa * (0.5 * r[:, 1] ** 2 - r[:, 1] ** 3)
        return 0.5 * r[:, 0] ** 2 + slow + theta * y[:, 1]

    answer = -torch.tensor([weight / kappa], dtype=torch.float64)
    start, theta = torch.zeros(1, 2, dtype=draw.dtype), torch.zeros(1, dtype=draw.dtype)
    name = f"w₁ = {weight:g}, {draw.dtype}"
    return Problem(name, energy, theta, start, w, 0.9, 200, answer, rtol=2e-2)
