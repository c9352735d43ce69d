"""The inverse of the KKT matrix, whose products are the derivatives of a quadratic program."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool
from torch import Tensor

from savi.implicit.qp.active_set import ActiveSet
from savi.implicit.qp.equilibration import Units
from savi.implicit.qp.matrices import Batched, times
from savi.implicit.qp.nullspace import Nullspace
from savi.implicit.qp.program import QPData
from savi.implicit.qp.spectrum import Spectrum
from savi.types import Active, Equalities, Index, Inequalities, Mask, Points


@dataclass(frozen=True)
class Factors(Batched):
    """K⁻¹ for examples with the same rank of A, by the factors that the solver ended with.

    With the active constraints I and the others N, K u = v stands for

        Q u_x + Aᵀu_y + Gᵀu_z = v_x,  A u_x = v_y,  (G u_x)_I = (v_z)_I,  (u_z)_N = 0.

    Attributes:
        data: the quadratic programs.
        space: the null space of A; None without equalities.
        active_set: the factors in that space.
        units: those of all of these, where they are not the given ones.
    """

    data: QPData
    space: Nullspace | None
    active_set: ActiveSet
    units: Units | None = None

    def solve(
        self, vx: Points, vy: Equalities | None, vz: Inequalities | None
    ) -> tuple[Points, Equalities, Inequalities]:
        """u, with a step of iterative refinement where the factors are close to singular.

        A right-hand side of None is 0.
        """
        vy = None if vy is None else self.shortest(vy)
        if self.units is None:
            ux, uy, uz = self._refined(vx, vy, vz)
        else:
            vy = None if vy is None else self.units.y * vy
            vz = None if vz is None else self.units.z * vz
            ux, uy, uz = self.units.given(*self._refined(self.units.x * vx, vy, vz))
        return ux, self.shortest(uy), uz

    def polished(
        self, x: Points, y: Equalities, z: Inequalities
    ) -> tuple[Points, Equalities, Inequalities]:
        """A solution after one more step to it, with the forces along the eigenvectors of Q."""
        Q, q, A, b, G, h = self.data
        force = Spectrum.of(Q).force(x, q + times(A.mT, y) + times(G.mT, z))
        dx, dy, dz = self._refined(-force, b - times(A, x), h - times(G, x))
        return x + dx, self.shortest(y + dy), z + dz

    def shortest(self, y: Equalities) -> Equalities:
        """The shortest of the multipliers with the same force Aᵀy, in the range of A."""
        if self.space is None or self.space.range is None:
            return y
        range_ = self.space.range
        if self.units is not None:
            range_ = torch.linalg.qr(range_ / self.units.y.unsqueeze(-1)).Q
        return times(range_, times(range_.mT, y))

    def _refined(
        self, vx: Points, vy: Equalities | None, vz: Inequalities | None
    ) -> tuple[Points, Equalities, Inequalities]:
        u = self._once(vx, vy, vz)
        refine = self.active_set.refine.unsqueeze(-1)
        if not refine.any():
            return u
        ux, uy, uz = u
        Q, _, A, _, G, _ = self.data
        ax, ay, az = times(Q, ux) + times(A.mT, uy) + times(G.mT, uz), times(A, ux), times(G, ux)
        correction = self._once(
            vx - ax, -ay if vy is None else vy - ay, -az if vz is None else vz - az
        )
        ux, uy, uz = (v + torch.where(refine, d, 0.0) for v, d in zip(u, correction, strict=True))
        return ux, uy, uz

    def _once(
        self, vx: Points, vy: Equalities | None, vz: Inequalities | None
    ) -> tuple[Points, Equalities, Inequalities]:
        Q, _, A, _, G, _ = self.data
        if self.space is None:
            ux, uz = self.active_set.solve(vx, vz)
            return ux, ux.new_zeros(len(ux), A.shape[1]), uz
        N, Y = self.space.basis, self.space.inverse
        right, offset = vx, None
        if vy is not None:
            offset = times(Y, vy)
            right = vx - times(Q, offset)
            shift = times(G, offset)
            vz = -shift if vz is None else vz - shift
        w, uz = self.active_set.solve(times(N.mT, right), vz)
        ux = times(N, w) if offset is None else offset + times(N, w)
        return ux, times(Y.mT, vx - times(Q, ux) - times(G.mT, uz)), uz


#: Some examples of a batch, None for all, and their factors.
Part = tuple[Index | None, Factors]


@dataclass(frozen=True)
class KKTInverse:
    """K⁻¹ for a batch: one set of factors for each rank of A; 0 for an example that failed.

    Attributes:
        parts: the factors of each set; where two hold an example, the later counts.
        equalities: m.
        active: which constraints are active.
        solved: which examples are solved.
        degenerate: where K is singular, or the active constraints change with the parameters.
    """

    parts: list[Part]
    equalities: int
    active: Active
    solved: Bool[Tensor, "B 1"]
    degenerate: Mask

    def without_degenerate(self) -> KKTInverse:
        """0 for degenerate examples too, of which none is left to report."""
        kept = ~self.degenerate.unsqueeze(-1)
        return replace(
            self,
            active=self.active & kept,
            solved=self.solved & kept,
            degenerate=torch.zeros_like(self.degenerate),
        )

    def finite(self, *solution: Tensor) -> list[Tensor]:
        """x, y and z, with 0 for an example that failed and for what is not active."""
        kept = (self.solved, self.solved, self.active)
        return [torch.where(mask, v, 0.0) for mask, v in zip(kept, solution, strict=True)]

    def solve(
        self, vx: Points, vy: Equalities | None, vz: Inequalities | None
    ) -> tuple[Points, Equalities, Inequalities]:
        """U = K⁻¹v, for right-hand sides that may be None in place of 0."""
        vx = torch.where(self.solved, vx, 0.0)
        vy, vz = (None if v is None else torch.where(self.solved, v, 0.0) for v in (vy, vz))
        u = [torch.zeros_like(vx), vx.new_zeros(len(vx), self.equalities)]
        u.append(torch.zeros_like(self.active, dtype=vx.dtype))
        for index, factors in self.parts:
            if index is None:
                u = list(factors.solve(vx, vy, vz))
                continue
            some = [None if v is None else v[index] for v in (vy, vz)]
            for whole, part in zip(u, factors.solve(vx[index], *some), strict=True):
                whole[index] = part
        ux, uy, uz = (torch.where(self.solved, v, 0.0) for v in u)
        return ux, uy, uz
