"""The eigenvectors of the curvature: where a residual is judged without terms that cancel.

In Hw + c + Gᵀz large terms may cancel in every coordinate, and hide an error along directions in
which the objective hardly curves. Along an eigenvector there is nothing of the others to hide it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from savi.implicit.qp.matrices import Batched, largest, or_one, times
from savi.implicit.qp.program import InequalityProgram
from savi.implicit.qp.residual import LEAST, KKTResidual
from savi.types import Inequalities, PerExample, Points, Symmetric

#: What rounding errors of a sum may be, relative to its terms.
ROUNDING = 1e-14


@dataclass(frozen=True)
class Spectrum(Batched):
    """H = D^½ V Λ Vᵀ D^½, in the units D = diag H of the variables.

    Attributes:
        values: Λ >= 0, with 0 for what cannot be told from it.
        vectors: V.
        root: D^½.
    """

    values: Float[Tensor, "S n"]
    vectors: Symmetric
    root: Float[Tensor, "S n"]

    @classmethod
    def of(cls, H: Symmetric) -> Spectrum:
        """Of positive semidefinite matrices."""
        diagonal, size = H.diagonal(dim1=-2, dim2=-1), or_one(largest(H.flatten(1))).unsqueeze(-1)
        root = torch.where(diagonal > 0, diagonal, size).sqrt()
        values, vectors = torch.linalg.eigh(H / (root.unsqueeze(-1) * root.unsqueeze(-2)))
        noise = 4.0 * H.shape[-1] * torch.finfo(H.dtype).eps * or_one(largest(values))
        return cls(torch.where(values.abs() > noise.unsqueeze(-1), values, 0.0), vectors, root)

    def along(self, v: Points) -> Points:
        """The parts of a force v along the eigenvectors, in their units."""
        return times(self.vectors.mT, v / self.root)

    def gradient(self, w: Points, load: Points) -> Points:
        """Hw + load along the eigenvectors: no rounding error of Hw is left where H is flat."""
        return self.values * times(self.vectors.mT, self.root * w) + self.along(load)

    def force(self, w: Points, load: Points) -> Points:
        """The same force in the coordinates of w."""
        return self.root * times(self.vectors, self.gradient(w, load))


def spectral_residual(
    program: InequalityProgram, w: Points, z: Inequalities, residual: KKTResidual
) -> tuple[PerExample, Inequalities]:
    """The largest of: stationarity along eigenvectors, the signs of z, and the duality gap.

    Each is relative to its own terms, and counts beyond their rounding errors.

    Returns:
        This error, and z relative to the forces of which none cancels, at least a small part of
        the largest.
    """
    spectrum = Spectrum.of(program.H.matrix)
    root, V, values = spectrum.root, spectrum.vectors, spectrum.values
    position, c = root * w, program.c / root
    G = program.G / root.unsqueeze(-2)
    along = times(V.mT, position)
    pull = values * along
    slope, rotated = times(V.mT, c), G @ V
    force = pull + slope + times(rotated.mT, z)
    terms = pull.abs() + slope.abs() + times(rotated.abs().mT, z.abs())
    gross = c.abs() + times(G.abs().mT, z.abs())
    noise = times(V.abs().mT, gross) + values * times(V.abs().mT, position.abs())
    errors = [largest(_beyond(force, noise) / or_one(terms))]
    # What a multiplier can be: the forces along its row, of which none cancels.
    squares = G.square()
    pulled = times(V, pull).abs() + gross
    lever = times(squares, pulled.square()).sqrt()
    size = squares.sum(dim=-1)
    weight = z * size / or_one(lever)
    errors.append(largest((-weight).clamp_min(0.0)))
    surplus = program.h - times(program.G, w)
    loose = torch.where(residual.slack.abs() > ROUNDING, (z * surplus).abs(), 0.0)
    objective = (c * position).abs().sum(dim=-1) + (pull * along).sum(dim=-1)
    objective = objective + (z * program.h).abs().sum(dim=-1)
    errors.append(loose.sum(dim=-1) / or_one(objective))
    pulled = pulled.clamp_min(LEAST * largest(pulled).unsqueeze(-1))
    lever = times(squares, pulled.square()).sqrt()
    return torch.stack(errors).amax(dim=0), z * size / or_one(lever)


def _beyond(value: Tensor, terms: Tensor) -> Tensor:
    return (value.abs() - ROUNDING * terms).clamp_min(0.0)
