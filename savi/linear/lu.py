"""LU factors of general square blocks, which serve the system and its transpose."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from savi.linear.base import rounding
from savi.linear.dense import finite_blocks, identity_unless
from savi.types import Blocks, Mask, PerExample


@dataclass(frozen=True)
class LUFactor:
    """Π J = L U of every block J, which need not be symmetric.

    Attributes:
        factor: L and U in one matrix; that of the identity for a singular block.
        pivots: Π.
        condition: κ₁ = ‖J‖₁ ‖J⁻¹‖₁; infinite for a block that is exactly singular or not finite.
        singular: which blocks cannot be told from singular ones, κ₁ ≥ 1 / (10 √P ε).
    """

    factor: Blocks
    pivots: Int[Tensor, "B P"]
    condition: PerExample
    singular: Mask

    @classmethod
    def of(cls, blocks: Blocks) -> LUFactor:
        """Factorise all blocks."""
        finite = finite_blocks(blocks)
        safe = identity_unless(finite, blocks)
        factor, pivots, info = torch.linalg.lu_factor_ex(safe)
        usable = finite & (info == 0)
        factor = identity_unless(usable, factor)
        identity = torch.eye(blocks.shape[-1], dtype=blocks.dtype, device=blocks.device)
        inverse = torch.linalg.lu_solve(factor, pivots, identity.expand_as(factor))
        condition = _one_norm(safe) * _one_norm(inverse)
        condition = torch.where(usable & ~condition.isnan(), condition, torch.inf)
        singular = ~(rounding(blocks.shape[-1], condition) < 1.0)
        return cls(identity_unless(~singular, factor), pivots, condition, singular)

    def solve(self, rhs: Float[Tensor, "B P R"]) -> Float[Tensor, "B P R"]:
        """J⁻¹ rhs, and 0 for a singular block."""
        return self._where_regular(torch.linalg.lu_solve(self.factor, self.pivots, rhs))

    def solve_transposed(self, rhs: Float[Tensor, "B P R"]) -> Float[Tensor, "B P R"]:
        """J⁻ᵀ rhs, and 0 for a singular block."""
        return self._where_regular(
            torch.linalg.lu_solve(self.factor, self.pivots, rhs, adjoint=True)
        )

    def _where_regular(self, x: Float[Tensor, "B P R"]) -> Float[Tensor, "B P R"]:
        return torch.where(self.singular[:, None, None], torch.zeros_like(x), x)


def _one_norm(blocks: Blocks) -> PerExample:
    """The largest column sum of absolute values."""
    return blocks.abs().sum(dim=-2).amax(dim=-1)
