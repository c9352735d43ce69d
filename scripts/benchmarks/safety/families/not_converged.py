"""Solves that do not converge: the step is too long, or there is nothing to converge to."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import softplus

from benchmarks.safety.energies import ENERGIES, Smooth
from benchmarks.safety.problem import FAMILIES, Draw, Problem, alternate, implicit_answer

#: Step sizes in units of 1 / the largest curvature; gradient descent converges below 2.
FACTORS = (2.5, 4.0, 10.0)
STARTS = (1.0, 10.0)
STEPS = (50, 101)
KINDS = ("ridge", "logistic", "log-cosh", "softplus")
REPEATS = 4


@FAMILIES.register("not_converged")
def not_converged(seed: int) -> list[Problem]:
    """Steps that overshoot, into cycles or away, and energies without a minimiser."""
    return _too_long(seed) + _no_minimiser(seed)


def _too_long(seed: int) -> list[Problem]:
    """Strictly convex energies: λ* and its derivative exist, and the solve is not there."""
    problems = []
    for kind, name in enumerate(KINDS):
        for index, (factor, start) in enumerate((f, s) for f in FACTORS for s in STARTS):
            draw = Draw(seed, 6, kind, index, dtype=alternate(index // 2 + index))
            size = 1 + index % 4
            smooth, w = ENERGIES[name](draw, size, start), draw.normal(1, size)
            problems.append(
                Problem(
                    name=f"{name}, step {factor:g} / curvature, start {start:g}, {draw.dtype}",
                    energy=smooth.energy,
                    theta=smooth.theta,
                    init=smooth.init,
                    cotangent=w,
                    lr=factor / smooth.curvature(),
                    max_steps=STEPS[index % 2],
                    answer=implicit_answer(smooth.energy, smooth.theta, smooth.init, w),
                )
            )
    return problems


def separable(draw: Draw) -> Smooth:
    """Logistic regression on separable data without a penalty: y runs off to infinity."""
    a, truth = draw.normal(8, 3), draw.normal(3)
    t = torch.where(a @ truth > 0, 1.0, -1.0).to(a)

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        return (theta.exp() * softplus(-t * (y @ a.mT))).sum(dim=-1)

    return Smooth(energy, 0.3 * draw.normal(8), 0.3 * draw.normal(1, 3))


def exponential(draw: Draw) -> Smooth:
    """Σ exp(θ_i − y_i), which falls for ever."""

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        return (theta - y).exp().sum(dim=-1)

    return Smooth(energy, draw.normal(2), draw.normal(1, 2))


def tilted(draw: Draw) -> Smooth:
    """½ y₁² − θᵀy in three variables: linear in two of them, and unbounded below."""

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        return 0.5 * y[:, 0].square() - y @ theta

    return Smooth(energy, draw.normal(3), draw.normal(1, 3))


UNBOUNDED: dict[str, Callable[[Draw], Smooth]] = {
    "separable data": separable,
    "exponential": exponential,
    "linear in part": tilted,
}


def _no_minimiser(seed: int) -> list[Problem]:
    problems = []
    for kind, (name, build) in enumerate(UNBOUNDED.items()):
        for index in range(REPEATS):
            draw = Draw(seed, 7, kind, index, dtype=alternate(index))
            smooth = build(draw)
            problems.append(
                Problem(
                    name=f"{name}, no minimiser, K = {100 * (1 + index)}, {draw.dtype}",
                    energy=smooth.energy,
                    theta=smooth.theta,
                    init=smooth.init,
                    cotangent=draw.normal(*smooth.init.shape),
                    lr=0.3,
                    max_steps=100 * (1 + index),
                    rtol=1e-2,
                    answer=None,
                )
            )
    return problems
