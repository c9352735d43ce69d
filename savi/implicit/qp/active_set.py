"""The active constraints of a program: their KKT matrix, factorised once, and the exact step to it.

The factors polish the interior point here, and they serve the derivatives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from savi.implicit.qp.interior_point import interior_point
from savi.implicit.qp.matrices import (
    Batched,
    Curvature,
    largest,
    lower_solve,
    or_one,
    row_norms,
    times,
    well_pivoted,
)
from savi.implicit.qp.program import InequalityProgram
from savi.implicit.qp.residual import kkt_residual
from savi.implicit.qp.spectrum import Spectrum
from savi.linear.dense import safe_cholesky
from savi.types import (
    Active,
    Constraints,
    Counts,
    Inequalities,
    Mask,
    PerExample,
    Points,
    Symmetric,
)

#: sin² of the angle below which an active constraint counts as dependent on the others.
DEPENDENT = 1e-12
#: A squared pivot below this part of the matrix says that the solution is not unique.
FLAT = 1e-13
#: What replaces missing curvature, or independence, relative to the matrix.
REGULAR = 1e-9
#: Squared pivots below this part of the matrix ask for a step of iterative refinement.
REFINE = 1e-4
#: Changes of the constraints that are taken for active, where the first guess has wrong signs.
CORRECTIONS = 4
#: Steps of the polish at most; the second one refines the first.
POLISHES = 2
#: Residuals after a step between which another one helps: the constraints are the right ones.
EXACT, CLOSE = 1e-13, 1e-6
#: Residuals below this are rounding errors, and say nothing about which point is better.
ROUNDING = 1e-14


@dataclass(frozen=True)
class ActiveSet(Batched):
    """Solves H dw + Gᵀ dz = α, (G dw)_I = γ_I, dz_N = 0, for active constraints I and others N.

    By H̃ = H + G_Iᵀ diag(ρ) G_I = LLᵀ, which is definite wherever the system is regular; ρ = 0
    where H is. With V = L⁻¹Gᵀ and R = VᵀV, T = R_II is factorised too:
    dz = T⁻¹(Vᵀα′ − γ) and dw = L⁻ᵀ(α′ − V dz), where α′ = L⁻¹(α + G_Iᵀ(ρ∘γ)).

    Attributes:
        G: all constraints.
        mask: 1 for the active ones, 0 for the others.
        rho: ρ, for each constraint in its own units.
        factor: L.
        rows: V, transposed.
        unit: the scale of each row that gives R a diagonal of ones.
        schur: the Cholesky factor of T in those units, with the identity for N.
        dependent: where active constraints are linearly dependent, so that z is not unique.
        flat: where H is not definite on the null space of G_I, so that w is not unique.
        refine: where the factors are close enough to singular to lose digits.
    """

    G: Constraints
    mask: Inequalities
    rho: Float[Tensor, "S p"]
    factor: Symmetric
    rows: Constraints
    unit: Float[Tensor, "S p"]
    schur: Float[Tensor, "B p p"]
    dependent: Mask
    flat: Bool[Tensor, " S"]
    refine: Mask

    @classmethod
    def factorised(cls, H: Curvature, G: Constraints, active: Active) -> ActiveSet:
        """Factorise; what is singular is regularised and flagged."""
        mask = active.to(G.dtype)
        size = largest(H.matrix.flatten(1))
        rho = torch.where(H.definite, 0.0, or_one(size)).unsqueeze(-1) / row_norms(G).square()
        factor, flat, doubtful = _curvature_factor(H, G, mask * rho)
        rows = torch.linalg.solve_triangular(factor, G.mT, upper=False).mT
        unit = 1.0 / row_norms(rows)
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
        return cls(G, mask, rho, factor, rows, unit, schur, dependent, flat, refine)

    def solve(self, alpha: Points, gamma: Inequalities | None) -> tuple[Points, Inequalities]:
        """Both dw and dz; a γ of None is 0, and what it holds for N does not matter."""
        if gamma is not None:
            gamma = self.mask * gamma
            alpha = alpha + times(self.G.mT, self.rho * gamma)
        alpha = lower_solve(self.factor, alpha)
        rhs = times(self.rows, alpha)
        rhs = self.unit * self.mask * (rhs if gamma is None else rhs - gamma)
        solved = lower_solve(self.schur, lower_solve(self.schur, rhs), transpose=True)
        dz = self.unit * self.mask * solved
        return lower_solve(self.factor, alpha - times(self.rows.mT, dz), transpose=True), dz


def _curvature_factor(
    H: Curvature, G: Tensor, rho: Tensor
) -> tuple[Symmetric, Bool[Tensor, " S"], Bool[Tensor, " S"]]:
    """L of H̃, where it is flat, and where its pivots lose digits."""
    size = or_one(largest(H.matrix.flatten(1)))
    if H.definite.all():
        return H.factor, ~H.definite, ~well_pivoted(H.factor, size, REFINE)
    active = G * rho.sqrt().unsqueeze(-1)
    blocks = active.mT @ active + H.matrix
    factor, definite = safe_cholesky(blocks)
    size = or_one(largest(blocks.flatten(1)))
    flat = ~definite | ~well_pivoted(factor, size, FLAT)
    if flat.any():
        identity = torch.eye(H.matrix.shape[-1], dtype=G.dtype, device=G.device)
        blocks[flat] += (REGULAR * size[flat])[:, None, None] * identity
        factor[flat] = safe_cholesky(blocks[flat])[0]
    return factor, flat, ~well_pivoted(factor, size, REFINE)


class Polished(NamedTuple):
    """The solution of a program with inequalities only.

    Attributes:
        w: the minimiser.
        z: the multipliers, exactly 0 where ``polished`` and inactive.
        steps: of the interior-point method.
        polished: where the step to the solution of the active constraints was an improvement.
        active_set: which constraints are active, and the factors of their KKT matrix.
    """

    w: Points
    z: Inequalities
    steps: Counts
    polished: Mask
    active_set: ActiveSet


def solve_inequalities(program: InequalityProgram, tolerance: float, max_steps: int) -> Polished:
    """Solve by the interior-point method, and polish.

    An interior point comes to the solution up to √tolerance only where strict complementarity
    fails. The constraints that it shows to be active define a linear system, whose solution is
    exact: it is kept where its KKT residual, signs included, is not larger. Where a sign is wrong,
    close to a kink, the constraints are corrected by the signs, and the system is solved again.
    """
    ended = interior_point(program, tolerance, max_steps)
    w, z, active = ended.iterate.w, ended.iterate.z, ended.active
    error = kkt_residual(program.data, w, w[:, :0], z).error.clamp_min(ROUNDING)
    for corrections in range(CORRECTIONS + 1):
        active_set = ActiveSet.factorised(program.H, program.G, active)
        new_w, new_z, new_error = polish(program, active_set, w, z)
        polished = new_error <= error
        corrected = (active & (new_z > 0)) | (~active & (times(program.G, new_w) > program.h))
        # A guess that leads nowhere is taken back, with the factors of the first one.
        last = ended.active if corrections == CORRECTIONS - 1 else corrected
        wrong = ~polished & ended.converged & (last != active).any(dim=-1)
        if not wrong.any():
            break
        active = torch.where(wrong.unsqueeze(-1), last, active)
    w = torch.where(polished.unsqueeze(-1), new_w, w)
    z = torch.where(polished.unsqueeze(-1), new_z, z)
    return Polished(w, z, ended.steps, polished, active_set)


def polish(
    program: InequalityProgram,
    active_set: ActiveSet,
    w: Points,
    z: Inequalities,
    spectrum: Spectrum | None = None,
) -> tuple[Points, Inequalities, PerExample]:
    """The solution of the active constraints' linear system, from close by, and its residual.

    With a spectrum, rounding errors of a large curvature spoil no multiplier where there is none.
    """
    H, c, G, h = program.H.matrix, program.c, program.G, program.h
    z = active_set.mask * z
    for _ in range(POLISHES):
        load = c + times(G.mT, z)
        stationarity = times(H, w) + load if spectrum is None else spectrum.force(w, load)
        dw, dz = active_set.solve(-stationarity, h - times(G, w))
        w, z = w + dw, z + dz
        error = kkt_residual(program.data, w, w[:, :0], z).error
        close = (error > EXACT) & (error < CLOSE)
        if not (active_set.refine | close).any():
            break
    return w, z, error
