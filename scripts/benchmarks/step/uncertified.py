"""A linear solver that judges nothing, for nothing but to measure what that costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from savi.linear.base import LinearSolution, LinearSolver, SymmetricOperator


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
