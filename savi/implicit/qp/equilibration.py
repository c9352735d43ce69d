"""Units of the variables and the constraints in which all entries of the KKT matrix are alike.

A. R. Curtis and J. K. Reid, *On the automatic scaling of matrices for Gaussian elimination*, 1972;
D. Ruiz, *A scaling algorithm to equilibrate both rows and columns norms in matrices*, 2001.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from savi.implicit.qp.matrices import Batched, largest, or_one
from savi.implicit.qp.program import QPData
from savi.types import Constraints, Equalities, Inequalities, Points, Symmetric

#: Rounds of Ruiz's scaling; each takes the root of what is left.
ROUNDS = 5
#: Chooses one of the units where several are as good.
RIDGE = 1e-8


@dataclass(frozen=True)
class Units(Batched):
    """x = X x′, y = Y y′ and z = Z z′ with diagonal X, Y, Z: K of x′, y′, z′ is TKT, T = (X, Y, Z).

    All are powers of 2, so that the scaled program has the solution of the given one exactly.
    """

    x: Points
    y: Equalities
    z: Inequalities

    @classmethod
    def equilibrating(cls, data: QPData) -> Self:
        """Those that bring all entries of TKT near to 1, and then the largest of each row."""
        return cls._of(*(M.expand(data.batch, -1, -1) for M in (data.Q, data.A, data.G)))

    @classmethod
    def of_rows(cls, A: Constraints, G: Constraints | None = None) -> Self:
        """Those of the constraints by themselves, whatever the objective."""
        n = A.shape[2]
        return cls._of(A.new_zeros(len(A), n, n), A, A[:, :0] if G is None else G)

    @classmethod
    def _of(cls, Q: Symmetric, A: Constraints, G: Constraints) -> Self:
        rows = torch.cat([A, G], dim=1)
        below = rows.new_zeros(len(rows), rows.shape[1], rows.shape[1])
        K = torch.cat([torch.cat([Q, rows.mT], dim=2), torch.cat([rows, below], dim=2)], dim=1)
        t = _geometric(K.abs())
        for _ in range(ROUNDS):
            t = t / or_one(largest(t.unsqueeze(-1) * K * t.unsqueeze(-2))).sqrt()
        x, y, z = torch.exp2(torch.log2(t).round()).split([M.shape[1] for M in (Q, A, G)], dim=1)
        return cls(x, y, z)

    def scaled(self, data: QPData) -> QPData:
        """The program of x′."""
        Q, q, A, b, G, h = data
        x, rows, columns = self.x, self.x.unsqueeze(-1), self.x.unsqueeze(-2)
        return QPData(
            rows * Q * columns,
            x * q,
            self.y.unsqueeze(-1) * A * columns,
            self.y * b,
            self.z.unsqueeze(-1) * G * columns,
            self.z * h,
        )

    def given(
        self, x: Points, y: Equalities, z: Inequalities
    ) -> tuple[Points, Equalities, Inequalities]:
        """T (x, y, z): a scaled solution in the units that were given; K⁻¹ = T (TKT)⁻¹ T."""
        return self.x * x, self.y * y, self.z * z


def _geometric(K: Symmetric) -> Float[Tensor, "B K"]:
    """T for which Σ log² |TKT|ᵢⱼ over the entries that are not 0 is least.

    Other units of the variables and the constraints lead to the same TKT.
    """
    there = (K > 0).to(K.dtype)
    sums = torch.where(K > 0, K, 1.0).log2().sum(dim=-1)
    system = there + torch.diag_embed(there.sum(dim=-1) + RIDGE)
    return torch.exp2(torch.linalg.solve(system, -sums))
