"""Cotangents whose squares underflow in float32, as a loss far from its optimum sends them."""

import torch

from benchmarks.safety.energies import ENERGIES
from benchmarks.safety.problem import FAMILIES, Draw, Problem, implicit_answer

EXPONENTS = (20, 24, 28, 32, 36, 38)
KINDS = ("ridge", "logistic", "softplus", "decoder")


@FAMILIES.register("tiny_cotangent")
def tiny_cotangents(seed: int) -> list[Problem]:
    """Well-posed problems in float32 with w of size 1e-20 to 1e-38."""
    problems = []
    for kind, name in enumerate(KINDS):
        for exponent in EXPONENTS:
            draw = Draw(seed, 1, kind, exponent, dtype=torch.float32)
            size = 2 + exponent % 5
            smooth = ENERGIES[name](draw, size, 1.0)
            w = (10.0**-exponent * draw.normal(1, size).double()).float()
            problems.append(
                Problem(
                    name=f"{name}, w of size 1e-{exponent}",
                    energy=smooth.energy,
                    theta=smooth.theta,
                    init=smooth.init,
                    cotangent=w,
                    lr=smooth.safe_step(),
                    max_steps=1000,
                    rtol=1e-4,
                    answer=implicit_answer(smooth.energy, smooth.theta, smooth.init, w),
                )
            )
    return problems
