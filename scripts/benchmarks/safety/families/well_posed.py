"""Controls: smooth around the solution, well-conditioned for their precision, and solved."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.reference import Energy
from benchmarks.safety.energies import ENERGIES, Smooth
from benchmarks.safety.problem import (
    CONTROL,
    FAMILIES,
    Draw,
    Problem,
    alternate,
    implicit_answer,
)
from benchmarks.safety.stiff import STIFF

SIZES = (1, 2, 3, 4, 5, 6, 8)
CONDITION = 1e4


@FAMILIES.register(CONTROL)
def well_posed(seed: int) -> list[Problem]:
    """Every smooth energy in 1 to 8 variables; stiff ones in float64; kinks that are far away."""
    return _smooth(seed) + _stiff(seed) + _far_from_kinks(seed)


def _smooth(seed: int) -> list[Problem]:
    """Solved to 1e-5 in float32 and 1e-6 in float64."""
    problems = []
    for kind, (name, build) in enumerate(ENERGIES.items()):
        for index, size in enumerate(SIZES):
            draw = Draw(seed, 0, kind, index, dtype=alternate(index + kind))
            smooth = build(draw, size, 1.0)
            problems.append(_problem(f"{name}, P = {size}, {draw.dtype}", draw, smooth))
    return problems


def _stiff(seed: int) -> list[Problem]:
    """Condition numbers that float64 has digits for, solved to match: to 1e-9."""
    return [
        replace(
            _problem(f"{name}, κ = {CONDITION:.0e}", draw, build(draw, CONDITION)),
            newton=True,
            rtol=1e-9,
        )
        for kind, (name, build) in enumerate(STIFF.items())
        if (draw := Draw(seed, 10, kind))
    ]


def _problem(name: str, draw: Draw, smooth: Smooth) -> Problem:
    w = draw.normal(*smooth.init.shape)
    return Problem(
        name=name,
        energy=smooth.energy,
        theta=smooth.theta,
        init=smooth.init,
        cotangent=w,
        lr=smooth.safe_step(),
        max_steps=1000,
        rtol=1e-5 if draw.dtype == torch.float32 else 1e-6,
        answer=implicit_answer(smooth.energy, smooth.theta, smooth.init, w),
    )


KINKED: dict[str, Callable[[Tensor], Tensor]] = {
    "|y|": lambda y: y.abs().sum(dim=-1),
    "relu": lambda y: y.relu().sum(dim=-1),
    "max": lambda y: y.amax(dim=-1),
    "|y₁ − y₂|": lambda y: (y[:, 0] - y[:, 1]).abs(),
}


def _proximal(penalty: Callable[[Tensor], Tensor]) -> Energy:
    """½ ‖y − θ‖² + penalty(y)."""
    return lambda y, theta: 0.5 * (y - theta).square().sum(dim=-1) + penalty(y)


def _far_from_kinks(seed: int) -> list[Problem]:
    """Penalties that are linear between λ0 and λ*, which lie at least 1 from any kink: dλ* = dθ."""
    problems = []
    for kind, (name, penalty) in enumerate(KINKED.items()):
        for index in range(3):
            draw = Draw(seed, 11, kind, index, dtype=alternate(index))
            w = draw.normal(1, 3)
            # Apart from each other by more than 3, and from 0 by more than 2.
            theta = torch.tensor([4.0, 8.0, -4.0], dtype=draw.dtype) + draw.uniform(3)
            problems.append(
                Problem(
                    name=f"{name} far from its kink, {draw.dtype}",
                    energy=_proximal(penalty),
                    theta=theta,
                    init=theta[None] + draw.uniform(1, 3, low=-1.0),
                    cotangent=w,
                    lr=0.2,
                    max_steps=200,
                    rtol=1e-4,
                    answer=w[0].double(),
                )
            )
    return problems
