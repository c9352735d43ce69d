"""Programs of whole numbers in units of powers of 2, and their solutions in rational numbers."""

from fractions import Fraction
from itertools import combinations

import torch

SCALINGS = [
    "none", "objective", "curvature", "slope", "length", "variables", "constraints", "mixed"
]  # fmt: skip


def power(exponent):
    """The power of 2 that is nearest to the power of 10."""
    return torch.exp2((exponent * 3.321928094887362).round())


def in_units(program, generator, reach=8.0):
    """The same program in other units of each variable and of each constraint."""

    def scales(size):
        unit = torch.rand(size, generator=generator, dtype=torch.float64)
        return power(reach * (2.0 * unit - 1.0))

    Q, q, A, b, G, h = program
    unit, equation, row = scales(len(q)), scales(len(b)), scales(len(h))
    Q, q = Q * unit * unit.unsqueeze(-1), q * unit
    A, b = A * unit * equation.unsqueeze(-1), b * equation
    return Q, q, A, b, G * unit * row.unsqueeze(-1), h * row


def drawn(scaling, seed, n=4, p=7):
    """Q of any rank, ``p`` constraints and a box, at times an equation; scales of 1e-8 to 1e10.

    Every entry is exact, so that Q has the rank that it should have.
    """
    generator = torch.Generator().manual_seed(seed)

    def whole(*shape, least=-9, most=9):
        return torch.randint(least, most + 1, shape, generator=generator).double()

    def scales(*shape):
        return power(torch.rand(*shape, generator=generator, dtype=torch.float64) * 18.0 - 8.0)

    rank, m = (int(whole(1, least=0, most=most)) for most in (n, 1))
    X, q, A, G, inside = (
        whole(rank, n), whole(n), whole(m, n), whole(p, n), whole(n, least=-3, most=3)
    )  # fmt: skip
    box = torch.cat([torch.eye(n), -torch.eye(n)]).double()
    h = torch.cat([G @ inside + whole(p, least=0, most=8), torch.full((2 * n,), 10.0).double()])
    Q, b, G = X.T @ X, A @ inside, torch.cat([G, box])
    if scaling in ("objective", "mixed"):
        scale = scales(1)
        Q, q = scale * Q, scale * q
    if scaling == "curvature":
        Q = scales(1) * Q
    if scaling == "slope":
        q = scales(1) * q
    if scaling == "length":
        scale = scales(1)
        b, h, q = scale * b, scale * h, scale * q
    if scaling in ("variables", "mixed"):
        unit = scales(n)
        Q, q, A, G = Q * unit * unit.unsqueeze(-1), q * unit, A * unit, G * unit
    if scaling in ("constraints", "mixed"):
        row, equation = scales(len(h)), scales(m)
        G, h, A, b = G * row.unsqueeze(-1), h * row, A * equation.unsqueeze(-1), b * equation
    return Q, q, A, b, G, h


def exact(program, active, v=None):
    """(x, y, z) where the active constraints hold with equality, and whether its signs are right.

    With a v, what takes the place of −q beside zeros for b and h: K⁻¹(v, 0, 0).
    """
    Q, q, A, b, G, h = (_rational(parameter) for parameter in program)
    kept = [i for i, holds in enumerate(active) if holds]
    rows, n = A + [G[i] for i in kept], len(Q)
    side = [-c for c in q] + b + [h[i] for i in kept]
    if v is not None:
        side = _rational(v) + [Fraction(0)] * len(rows)
    K = [row + [other[i] for other in rows] for i, row in enumerate(Q)]
    K += [row + [Fraction(0)] * len(rows) for row in rows]
    u = _solved(K, side)
    x, y, z = u[:n], u[n : n + len(b)], [Fraction(0)] * len(h)
    for i, multiplier in zip(kept, u[n + len(b) :], strict=True):
        z[i] = multiplier
    right = min(z, default=0) >= 0 and all(
        sum(g * c for g, c in zip(row, x, strict=True)) <= bound
        for i, (row, bound) in enumerate(zip(G, h, strict=True))
        if i not in kept
    )
    return [
        torch.tensor([float(c) for c in part], dtype=torch.float64) for part in (x, y, z)
    ], right


def optimum(program):
    """x and the active constraints of every vertex of the KKT conditions; none if there is none.

    Every set of constraints whose system is regular is tried. Equations must be independent.
    """
    n, m, p = len(program[1]), len(program[3]), len(program[5])
    found = []
    for size in range(n - m + 1):
        for kept in combinations(range(p), size):
            active = [i in kept for i in range(p)]
            try:
                (x, _, z), right = exact(program, active)
            except StopIteration:
                continue
            if right:
                found.append((x, z, active))
    return found


def _rational(values):
    numbers = values.tolist()
    if values.dim() == 1:
        return [Fraction(v) for v in numbers]
    return [[Fraction(v) for v in row] for row in numbers]


def _solved(K, side):
    """By elimination, without rounding; an error where K is singular."""
    rows = [[*row, v] for row, v in zip(K, side, strict=True)]
    for column in range(len(rows)):
        pivot = next(i for i in range(column, len(rows)) if rows[i][column] != 0)
        rows[column], rows[pivot] = rows[pivot], rows[column]
        for i, row in enumerate(rows):
            if i != column and row[column] != 0:
                factor = row[column] / rows[column][column]
                rows[i] = [a - factor * c for a, c in zip(row, rows[column], strict=True)]
    return [row[-1] / row[i] for i, row in enumerate(rows)]
