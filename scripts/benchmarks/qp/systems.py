"""The solvers that are timed: forward and backward of one batch."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.qp.problems import Programs
from savi.implicit.qp import QPLayer

OURS, PEER = "savi", "qpth"

#: More than any example needs; qpth stops a whole batch at once.
MAX_STEPS = 60


@dataclass(frozen=True)
class Answer:
    """What a solver found.

    Attributes:
        value: x.
        gradients: of ½‖x‖², summed over the batch, in every parameter.
        steps: of each example, or None where the solver does not say.
    """

    value: Float[Tensor, "B n"]
    gradients: tuple[Tensor, ...]
    steps: Tensor | None = None

    def difference(self, other: Answer) -> tuple[float, float]:
        """The largest difference of the values and of the gradients, relative to the largest."""
        ours, theirs = (
            torch.cat([gradient.flatten() for gradient in answer.gradients])
            for answer in (self, other)
        )
        return _relative(self.value, other.value), _relative(ours, theirs)


Solver = Callable[[Programs], Answer]


def solvers(tolerance: float) -> dict[str, Solver]:
    """By name; qpth is left out where it is not installed.

    Args:
        tolerance: of the relative KKT residual here, and of qpth's absolute one.
    """
    found = {OURS: _ours(QPLayer(tolerance=tolerance, max_steps=MAX_STEPS))}
    with warnings.catch_warnings():
        # Its modules hold strings with invalid escapes.
        warnings.simplefilter("ignore")
        try:
            from qpth.qp import QPFunction
        except ImportError:
            return found
    layer = QPFunction(eps=tolerance, verbose=-1, maxIter=MAX_STEPS)
    return found | {PEER: _qpth(layer)}


def _ours(layer: QPLayer) -> Solver:
    def solve(programs: Programs) -> Answer:
        solution = layer(*programs)
        gradients = _gradients(solution.value, programs)
        return Answer(solution.value.detach(), gradients, solution.steps)

    return solve


def _qpth(layer: Callable[..., Tensor]) -> Solver:
    def solve(programs: Programs) -> Answer:
        Q, q, A, b, G, h = programs
        none = torch.empty(0, dtype=Q.dtype)
        value = layer(Q, q, G, h, none if A is None else A, none if b is None else b)
        return Answer(value.detach(), _gradients(value, programs))

    return solve


def _gradients(value: Tensor, programs: Programs) -> tuple[Tensor, ...]:
    return torch.autograd.grad(0.5 * value.square().sum(), programs.parameters)


def _relative(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())
