"""The implicit gradient without its certificate, for nothing but to measure what that costs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar
from unittest.mock import patch

import torch
from jaxtyping import Float
from torch import Tensor

from savi.gradients import implicit
from savi.gradients.implicit import AdjointSolve
from savi.inner.precision import full_precision
from savi.linear.base import LinearSolution, LinearSolver, SymmetricOperator


@contextmanager
def without_certificate() -> Iterator[None]:
    """Inside, ``ift`` looks for no kinks and judges nothing; its gradient is the same."""
    with (
        patch.object(implicit, "AdjointSolve", _UnjudgedAdjoint),
        patch.object(implicit, "kinked_operations", lambda residual, point: ()),
    ):
        yield


class _UnjudgedAdjoint(AdjointSolve):
    """v ↦ −H⁻¹v, with neither a probe nor a judgement."""

    def __call__(
        self, v: Float[Tensor, "B P"], captured: tuple[Tensor, ...]
    ) -> tuple[Tensor | None, ...]:
        """The cotangent of F alone."""
        with torch.no_grad(), full_precision(v.device.type):
            u = self.linearization.adjoint(v, lambda rhs: self.solver(self._operator(), rhs).value)
        return -u, *[None] * len(captured)


@dataclass(frozen=True)
class UnjudgedCholesky(LinearSolver):
    """H = L Lᵀ, u = L⁻ᵀ L⁻¹ v, with no residual, no status and no smallest eigenvalue."""

    name: ClassVar[str] = "cholesky"

    def solve(self, operator: SymmetricOperator, rhs: Float[Tensor, "B P"]) -> LinearSolution:
        """Factorise all blocks at once, whatever they are."""
        factor, info = torch.linalg.cholesky_ex(operator.dense())
        u = torch.cholesky_solve(rhs.unsqueeze(-1), factor).squeeze(-1)
        unknown = torch.full_like(rhs[:, 0], torch.nan)
        return LinearSolution(u, unknown, torch.zeros_like(info), torch.zeros_like(info), unknown)
