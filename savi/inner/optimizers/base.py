"""The interface of an inner optimiser: a pure step from iterate to iterate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from savi.errors import InputError
from savi.inner.objective import InnerObjective
from savi.registry import Registry

OPTIMIZERS: Registry[type[InnerOptimizer]] = Registry("inner.optimizer")


class Point(NamedTuple):
    """An iterate with what is known there."""

    y: Float[Tensor, "B P"]
    value: Float[Tensor, " B"]
    gradient: Float[Tensor, "B P"]


class InnerOptimizer(ABC):
    """A rule y_{k+1} = step(y_k, state_k), written with differentiable tensor operations only.

    Every operation acts on each example by itself: no dot product, norm or decision is shared
    by the batch. The same step serves the plain solve and the unrolled graph.
    """

    name: ClassVar[str]

    @abstractmethod
    def init(self, y: Float[Tensor, "B P"]) -> Any:
        """The state before the first step."""

    @abstractmethod
    def step(
        self, objective: InnerObjective, point: Point, state: Any, create_graph: bool
    ) -> tuple[Float[Tensor, "B P"], Any]:
        """The next iterate and state; differentiable if ``create_graph``."""

    def stalled(self, state: Any, y: Tensor, proposal: Tensor) -> Bool[Tensor, " B"]:
        """Which examples can make no further progress: by default, those that did not move."""
        return (proposal.detach() == y.detach()).all(dim=-1)


def require_positive(owner: str, **values: float) -> None:
    """Refuse step sizes and the like that are not finite and above 0."""
    for name, value in values.items():
        if not 0.0 < value < float("inf"):
            raise InputError(f"{owner}: {name} is {value}, but it must be a number above 0")


def solve_cholesky(
    matrix: Float[Tensor, "B P P"], rhs: Float[Tensor, "B P"]
) -> tuple[Float[Tensor, "B P"], Bool[Tensor, " B"]]:
    """Solve with positive definite blocks; says which blocks were not, and answers 0 for them."""
    factor, info = torch.linalg.cholesky_ex(matrix)
    failed = (info != 0) | ~torch.isfinite(factor.detach()).flatten(1).all(dim=-1)
    if failed.any():
        # A failed factor holds garbage, which would reach the gradient even under a zero cotangent.
        identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
        factor = torch.linalg.cholesky(torch.where(failed[:, None, None], identity, matrix))
        rhs = torch.where(failed.unsqueeze(-1), torch.zeros_like(rhs), rhs)
    return torch.cholesky_solve(rhs.unsqueeze(-1), factor).squeeze(-1), failed
