"""The figures of the inner solves that training logs."""

from __future__ import annotations

from torch import Tensor

from savi.inner.solution import Solution
from savi.inner.status import Status


def inner_metrics(solution: Solution) -> dict[str, Tensor]:
    """How the inner solves of a batch went."""
    return {
        "inner/steps": solution.steps.float().mean(),
        "inner/stationarity": solution.stationarity.median(),
        "inner/converged": (solution.status == Status.CONVERGED).float().mean(),
    }
