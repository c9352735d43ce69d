"""Proofs that a quadratic program has no solution: Farkas' ray, and a ray of descent.

Each comes from a least-distance problem, whose method decides by signs. What it proves is judged
term by term in the numbers that were given, so that no units of variables or constraints matter.
"""

from __future__ import annotations

import torch

from savi.implicit.qp.equilibration import Units
from savi.implicit.qp.least_distance import LeastDistance
from savi.implicit.qp.matrices import largest, or_one, row_norms, times
from savi.implicit.qp.program import InequalityProgram, QPData
from savi.implicit.qp.spectrum import Spectrum
from savi.types import Equalities, Inequalities, Mask, Points

#: What may be left of terms that cancel in a proof, relative to them.
PROOF = 1e-12
#: A sum below this part of its terms may have any sign.
NOISE = 1e-13
#: The slope of a ray of descent is at least this part of its terms.
SLOPE = 1e-6
#: A ray speaks of all points that are not further away than so many times the constraints.
FAR = 1e6


def farkas_ray(data: QPData) -> tuple[Equalities, Inequalities, Mask, Mask]:
    """Farkas' ray (y, z) with z >= 0, Aᵀy + Gᵀz = 0 and bᵀy + hᵀz < 0.

    The point of Ax = b, Gx <= h that is nearest to 0 is sought: where constraints contradict each
    other, the signs by which they do so are the ray.

    Returns:
        y, z, where they prove that there is no point, and where one was found.
    """
    units = Units.of_rows(*(rows.expand(data.batch, -1, -1) for rows in (data.A, data.G)))
    _, _, A, b, G, h = units.scaled(data)
    M, d = torch.cat([A, -A, G], dim=1), torch.cat([b, -b, h], dim=1)
    rows = row_norms(M)
    M, d = M / rows.unsqueeze(-1), d / rows
    nearest = LeastDistance(M, d, torch.zeros_like(units.x), d.abs()).solve(
        torch.zeros_like(d, dtype=torch.bool)
    )
    ray = nearest.ray
    miss, value = times(M.mT, ray).abs(), (d * ray).sum(dim=-1)
    near = miss <= PROOF * times(M.abs().mT, ray)
    proven = near.all(dim=-1) & (value < -NOISE * (d.abs() * ray).sum(dim=-1))
    # What is left of the terms must not reach a point that is far away either.
    reach = FAR * largest(torch.where(ray > 0, d, 0.0))
    proven &= miss.sum(dim=-1) * reach <= -value
    up, down, z = (ray / rows).split([A.shape[1], A.shape[1], G.shape[1]], dim=1)
    _, y, z = units.given(units.x, up - down, z)
    return y, z, proven, nearest.found


def descent_ray(program: InequalityProgram) -> tuple[Points, Mask]:
    """A ray d with Hd = 0, Gd <= 0 and cᵀd < 0, along which a feasible program falls for ever.

    d is the projection of −c on {Hd = 0, Gd <= 0}, in the units of the spectrum of H.
    """
    H, c, G = program.H.matrix, program.c, program.G
    spectrum = Spectrum.of(H)
    null = spectrum.vectors * (spectrum.values == 0).unsqueeze(-2) / spectrum.root.unsqueeze(-1)
    M, slope = G @ null, times(null.mT, c)
    M = torch.where(M.abs() <= NOISE * (G.abs() @ null.abs()), 0.0, M)
    M = M / row_norms(M).unsqueeze(-1)
    none = c.new_zeros(len(c), G.shape[1])
    nearest = LeastDistance(M.expand(len(c), -1, -1), none, slope, none).solve(none.bool())
    d = times(null, nearest.u)
    d = d / or_one(largest(d)).unsqueeze(-1)
    flat = times(H, d).abs() <= PROOF * times(H.abs(), d.abs())
    allowed = times(G, d) <= PROOF * times(G.abs(), d.abs())
    falls = (c * d).sum(dim=-1) < -SLOPE * (c * d).abs().sum(dim=-1)
    return d, flat.all(dim=-1) & allowed.all(dim=-1) & falls
