"""The linear system whose solutions are the derivatives of a quadratic program."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from savi.implicit.qp.active_set import ActiveSet
from savi.implicit.qp.problem import QPData
from savi.implicit.qp.reduced import Nullspace
from savi.implicit.qp.scaled import times


@dataclass(frozen=True)
class Factors:
    """K⁻¹ for examples with the same rank of A, by the factors that the solver ended with.

    With the active constraints I and the others N, K u = v stands for

        Q u_x + Aᵀu_y + Gᵀu_z = v_x,  A u_x = v_y,  (G u_x)_I = (v_z)_I,  (u_z)_N = 0.

    Attributes:
        data: the quadratic programs.
        space: the null space of A; None without equalities.
        active_set: the factors in that space.
    """

    data: QPData
    space: Nullspace | None
    active_set: ActiveSet

    def solve(
        self, vx: Float[Tensor, "B n"], vy: Tensor | None, vz: Tensor | None
    ) -> tuple[Float[Tensor, "B n"], Float[Tensor, "B m"], Float[Tensor, "B p"]]:
        """u, with a step of iterative refinement where the factors are close to singular.

        A right-hand side of None is 0.
        """
        u = self._once(vx, vy, vz)
        refine = self.active_set.refine.unsqueeze(-1)
        if not refine.any():
            return u
        ax, ay, az = self.product(*u)
        correction = self._once(
            vx - ax, -ay if vy is None else vy - ay, -az if vz is None else vz - az
        )
        ux, uy, uz = (v + torch.where(refine, d, 0.0) for v, d in zip(u, correction, strict=True))
        return ux, uy, uz

    def product(
        self, ux: Float[Tensor, "B n"], uy: Float[Tensor, "B m"], uz: Float[Tensor, "B p"]
    ) -> tuple[Float[Tensor, "B n"], Float[Tensor, "B m"], Float[Tensor, "B p"]]:
        """K u."""
        Q, _, A, _, G, _ = self.data
        top = times(Q, ux) + times(A.mT, uy) + times(G.mT, uz)
        return top, times(A, ux), times(G, ux)

    def _once(
        self, vx: Tensor, vy: Tensor | None, vz: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
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


@dataclass(frozen=True)
class KKT:
    """K⁻¹ for a batch: one set of factors for each rank of A; 0 for an example that failed.

    Attributes:
        parts: the examples of each set, None for all, and their factors.
        equalities: m.
        active: which constraints are active.
        solved: which examples are solved.
    """

    parts: list[tuple[Int[Tensor, " A"] | None, Factors]]
    equalities: int
    active: Bool[Tensor, "B p"]
    solved: Bool[Tensor, "B 1"]

    def finite(
        self, x: Float[Tensor, "B n"], y: Float[Tensor, "B m"], z: Float[Tensor, "B p"]
    ) -> tuple[Float[Tensor, "B n"], Float[Tensor, "B m"], Float[Tensor, "B p"]]:
        """The solution, with 0 for an example that failed and for what is not active."""
        return (
            torch.where(self.solved, x, 0.0),
            torch.where(self.solved, y, 0.0),
            torch.where(self.active, z, 0.0),
        )

    def solve(
        self, vx: Float[Tensor, "B n"], vy: Tensor | None, vz: Tensor | None
    ) -> tuple[Float[Tensor, "B n"], Float[Tensor, "B m"], Float[Tensor, "B p"]]:
        """u, for right-hand sides that may be None in place of 0."""
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
