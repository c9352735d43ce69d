"""Units of the variables and the constraints in which all entries of the KKT matrix are alike.

D. Ruiz, *A scaling algorithm to equilibrate both rows and columns norms in matrices*, 2001.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch

from savi.implicit.qp.matrices import Batched, largest, or_one
from savi.implicit.qp.program import QPData
from savi.types import Equalities, Inequalities, Points

#: Rounds of the scaling; each takes the root of what is left.
ROUNDS = 12


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
        """Those that bring the largest entry of each row of TKT near to 1."""
        Q, A, G = (M.abs().expand(data.batch, -1, -1) for M in (data.Q, data.A, data.G))
        x, y, z = (M.new_ones(M.shape[:2]) for M in (Q, A, G))
        for _ in range(ROUNDS):
            rows = [x.unsqueeze(-1) * Q * x.unsqueeze(-2)]
            rows += [t.unsqueeze(-1) * M * x.unsqueeze(-2) for t, M in ((y, A), (z, G))]
            sizes = [largest(M) for M in rows]
            columns = torch.stack([largest(M.mT) for M in rows]).amax(dim=0)
            x = x / or_one(columns).sqrt()
            y, z = y / or_one(sizes[1]).sqrt(), z / or_one(sizes[2]).sqrt()
        return cls(*(torch.exp2(torch.log2(t).round()) for t in (x, y, z)))

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
        self, x: Points, y: Equalities | None, z: Inequalities | None
    ) -> tuple[Points, Equalities | None, Inequalities | None]:
        """T (x, y, z): a scaled solution in the units that were given; K⁻¹ = T (TKT)⁻¹ T."""
        y, z = (None if v is None else unit * v for v, unit in ((y, self.y), (z, self.z)))
        return self.x * x, y, z
