"""Condition numbers of 1e6 to 1e10 in float32, whose rounding is 6e-8."""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from benchmarks.safety.energies import Smooth, penalised
from benchmarks.safety.problem import FAMILIES, Draw, Problem, implicit_answer
from benchmarks.safety.stiff import STIFF, hardly_penalised

CONDITIONS = (1e6, 1e7, 1e8, 1e9, 1e10)


def separable(draw: Draw, condition: float) -> Smooth:
    """Logistic regression on separable data, held back by penalties of 1/κ alone."""
    a, truth = draw.normal(8, 3), draw.normal(3)
    t = torch.where(a @ truth > 0, 1.0, -1.0)

    def loss(y: Tensor, theta: Tensor) -> Tensor:
        return softplus(-t.to(y) * (y @ a.to(y).mT)).sum(dim=-1)

    theta = torch.full((3,), 1.0 / condition).log() + 0.3 * draw.normal(3)
    return Smooth(penalised(loss), theta, draw.normal(1, 3))


#: Those solved by gradient descent, which calls them solved once the stiff directions are: the
#: gradient along the soft ones is too small to count.
DESCENT = {"hardly penalised": hardly_penalised, "separable logistic": separable}


@FAMILIES.register("ill_conditioned")
def ill_conditioned(seed: int) -> list[Problem]:
    """Minimisers that exist and are unique, and hard to tell in float32."""
    kinds = [(name, build, True) for name, build in STIFF.items()]
    kinds += [(name, build, False) for name, build in DESCENT.items()]
    problems = []
    for kind, (name, build, newton) in enumerate(kinds):
        for index, condition in enumerate(CONDITIONS):
            draw = Draw(seed, 3, kind, index, dtype=torch.float32)
            smooth = build(draw, condition)
            w = draw.normal(*smooth.init.shape)
            problems.append(
                Problem(
                    name=f"{name}, κ = {condition:.0e}" + " by descent" * (not newton),
                    energy=smooth.energy,
                    theta=smooth.theta,
                    init=smooth.init,
                    cotangent=w,
                    lr=smooth.safe_step(),
                    max_steps=20 if newton else 300,
                    newton=newton,
                    answer=implicit_answer(smooth.energy, smooth.theta, smooth.init, w),
                )
            )
    return problems
