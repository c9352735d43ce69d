"""The KKT matrix of the active constraints, factorised once: it polishes and it differentiates."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from savi.implicit.qp.problem import Curvature, well_pivoted
from savi.implicit.qp.scaled import largest, lower_solve, or_one, times
from savi.linear.dense import safe_cholesky

#: sin² of the angle below which an active constraint counts as dependent on the others.
DEPENDENT = 1e-12
#: A squared pivot below this part of the matrix says that the solution is not unique.
FLAT = 1e-13
#: What replaces missing curvature, or independence, relative to the matrix.
REGULAR = 1e-9
#: Squared pivots below this part of the matrix ask for a step of iterative refinement.
REFINE = 1e-4


@dataclass(frozen=True)
class ActiveSet:
    """Solves H dw + Gᵀ dz = α, (G dw)_I = γ_I, dz_N = 0, for active constraints I and others N.

    By H̃ = H + ρ G_IᵀG_I = LLᵀ, which is definite wherever the system is regular; ρ = 0 where H
    is. With V = L⁻¹Gᵀ and R = VᵀV, T = R_II is factorised too:
    dz = T⁻¹(Vᵀα′ − γ) and dw = L⁻ᵀ(α′ − V dz), where α′ = L⁻¹(α + ρ G_Iᵀγ).

    Attributes:
        G: all constraints.
        mask: 1 for the active ones, 0 for the others.
        rho: ρ, per example.
        factor: L.
        rows: V, transposed.
        unit: the scale of each row that gives R a diagonal of ones.
        schur: the Cholesky factor of T in those units, with the identity for N.
        dependent: where active constraints are linearly dependent, so that z is not unique.
        flat: where H is not definite on the null space of G_I, so that w is not unique.
        refine: where the factors are close enough to singular to lose digits.
    """

    G: Float[Tensor, "S p k"]
    mask: Float[Tensor, "B p"]
    rho: Float[Tensor, "S 1"]
    factor: Float[Tensor, "S k k"]
    rows: Float[Tensor, "S p k"]
    unit: Float[Tensor, "S p"]
    schur: Float[Tensor, "B p p"]
    dependent: Bool[Tensor, " B"]
    flat: Bool[Tensor, " S"]
    refine: Bool[Tensor, " B"]

    @classmethod
    def factorised(
        cls, H: Curvature, G: Float[Tensor, "S p k"], active: Bool[Tensor, "B p"]
    ) -> ActiveSet:
        """Factorise; what is singular is regularised and flagged."""
        mask = active.to(G.dtype)
        size = largest(H.matrix.flatten(1))
        norms = torch.linalg.vector_norm(G, dim=-1)
        steepest = or_one(largest(norms * mask))
        rho = torch.where(H.definite, 0.0, or_one(size) / steepest.square())
        factor, flat, doubtful = _curvature_factor(H, G, mask, rho)
        rows = torch.linalg.solve_triangular(factor, G.mT, upper=False).mT
        lengths = torch.linalg.vector_norm(rows, dim=-1)
        unit = 1.0 / or_one(lengths)
        scaled = rows * unit.unsqueeze(-1)
        scaled_active = scaled * mask.unsqueeze(-1)
        T = scaled_active @ scaled_active.mT
        T.diagonal(dim1=-2, dim2=-1).add_(1.0 - mask)
        schur, independent = safe_cholesky(T)
        ones = torch.ones_like(independent, dtype=T.dtype)
        dependent = ~independent | ~well_pivoted(schur, ones, DEPENDENT)
        if dependent.any():
            T[dependent] += REGULAR * torch.eye(T.shape[-1], dtype=T.dtype, device=T.device)
            schur[dependent] = safe_cholesky(T[dependent])[0]
        refine = doubtful | dependent | ~well_pivoted(schur, ones, REFINE)
        return cls(G, mask, rho.unsqueeze(-1), factor, rows, unit, schur, dependent, flat, refine)

    def solve(
        self, alpha: Float[Tensor, "B k"], gamma: Float[Tensor, "B p"] | None
    ) -> tuple[Float[Tensor, "B k"], Float[Tensor, "B p"]]:
        """Both dw and dz; a γ of None is 0, and what it holds for N does not matter."""
        if gamma is not None:
            gamma = self.mask * gamma
            alpha = alpha + self.rho * times(self.G.mT, gamma)
        alpha = lower_solve(self.factor, alpha)
        rhs = times(self.rows, alpha)
        rhs = self.unit * self.mask * (rhs if gamma is None else rhs - gamma)
        solved = lower_solve(self.schur, lower_solve(self.schur, rhs), transpose=True)
        dz = self.unit * self.mask * solved
        return lower_solve(self.factor, alpha - times(self.rows.mT, dz), transpose=True), dz


def _curvature_factor(
    H: Curvature, G: Tensor, mask: Float[Tensor, "B p"], rho: Float[Tensor, " B"]
) -> tuple[Float[Tensor, "S k k"], Bool[Tensor, " S"], Bool[Tensor, " S"]]:
    """L of H̃, where it is flat, and where its pivots lose digits."""
    size = or_one(largest(H.matrix.flatten(1)))
    if H.definite.all():
        return H.factor, ~H.definite, ~well_pivoted(H.factor, size, REFINE)
    active = G * (mask * rho.sqrt().unsqueeze(-1)).unsqueeze(-1)
    blocks = active.mT @ active + H.matrix
    factor, definite = safe_cholesky(blocks)
    size = or_one(largest(blocks.flatten(1)))
    flat = ~definite | ~well_pivoted(factor, size, FLAT)
    if flat.any():
        identity = torch.eye(H.matrix.shape[-1], dtype=G.dtype, device=G.device)
        blocks[flat] += (REGULAR * size[flat])[:, None, None] * identity
        factor[flat] = safe_cholesky(blocks[flat])[0]
    return factor, flat, ~well_pivoted(factor, size, REFINE)
