"""A dual active-set method for the programs at which an interior point fails: slower, and exact.

Proximal steps make the objective strictly convex, and each is a least-distance problem.
D. Arnström, A. Bemporad and D. Axehill, *A dual active-set solver for embedded quadratic
programming using recursive LDLᵀ updates*, 2022.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from savi.implicit.qp.active_set import ROUNDING, ActiveSet, Polished, polish
from savi.implicit.qp.least_distance import LeastDistance
from savi.implicit.qp.matrices import largest, row_norms, times
from savi.implicit.qp.program import InequalityProgram
from savi.implicit.qp.residual import kkt_residual
from savi.implicit.qp.spectrum import Spectrum
from savi.types import Active, Inequalities, Mask, PerExample, Points

#: Proximal steps at most.
PROXIMAL_STEPS = 30
#: The proximal term falls by this factor from step to step, to the least part of the curvature.
FALL, LEAST = 0.1, 1e-13
#: A step below this part of the way so far is the last one.
SETTLED = 1e-14


class Found(NamedTuple):
    """Where the method ended.

    Attributes:
        w: the minimiser.
        z: its multipliers.
        active: linearly independent constraints that hold with equality.
        ended: whether there was nothing left to do; not where the constraints contradict each
            other or the steps ran out.
    """

    w: Points
    z: Inequalities
    active: Active
    ended: Mask


def solve_dually(program: InequalityProgram, guess: Active) -> Polished:
    """Solve by the dual method, and polish, from a guess of the active constraints."""
    found = dual_active_set(program, guess)
    active_set = ActiveSet.factorised(program.H, program.G, found.active)
    w, z, error = polish(program, active_set, found.w, found.z, Spectrum.of(program.H.matrix))
    before = kkt_residual(program.data, found.w, found.w[:, :0], found.z).error
    better = (error <= before.clamp_min(ROUNDING)).unsqueeze(-1)
    w, z = torch.where(better, w, found.w), torch.where(better, z, found.z)
    return Polished(
        w, z, torch.zeros_like(active_set.dependent, dtype=torch.long), found.ended, active_set
    )


def dual_active_set(program: InequalityProgram, guess: Active) -> Found:
    """Solve by proximal steps: each minimises the objective and δ/2 ‖P dw‖², P on H's null space.

    Each starts from the gradient and the slacks at the last point, in the numbers that were given,
    which also takes back the rounding errors of the step before.
    """
    spectrum = Spectrum.of(program.H.matrix)
    w, z = torch.zeros_like(program.c), torch.zeros_like(program.h)
    reach = largest(w)
    running = torch.ones_like(reach, dtype=torch.bool)
    active, ended = guess.clone(), ~running
    proximal = _first_proximal(program, spectrum)
    for _ in range(PROXIMAL_STEPS):
        (index,) = running.nonzero(as_tuple=True)
        some, part = program.take(index), spectrum.take(index)
        curvature = torch.maximum(part.values, proximal[index].unsqueeze(-1))
        basis = part.vectors / (part.root.unsqueeze(-1) * curvature.sqrt().unsqueeze(-2))
        slack = some.h - times(some.G, w[index])
        M = some.G @ basis
        rows = row_norms(M)
        problem = LeastDistance(
            M / rows.unsqueeze(-1),
            slack / rows,
            part.gradient(w[index], some.c) / curvature.sqrt(),
            _own(some, w[index]) / rows,
        )
        u, multipliers, kept, found, _ = problem.solve(active[index])
        step = times(basis, u)
        w[index] = torch.where(found.unsqueeze(-1), w[index] + step, w[index])
        keep = found.unsqueeze(-1) | ~ended[index].unsqueeze(-1)
        z[index] = torch.where(keep, multipliers / rows, z[index])
        active[index] = torch.where(keep, kept, active[index])
        reach[index] = torch.maximum(reach[index], largest(part.root * w[index]))
        settled = largest(part.root * step) <= SETTLED * reach[index]
        ended[index] |= found
        running[index] = found & ~settled
        if not running.any():
            break
        proximal = (FALL * proximal).clamp_min(LEAST)
    return Found(w, z, active, ended)


def _first_proximal(program: InequalityProgram, spectrum: Spectrum) -> PerExample:
    """δ for which the slope goes as far in a step as the nearest constraint is away."""
    ways = program.h.abs() / row_norms(program.G / spectrum.root.unsqueeze(-2))
    near = torch.where(ways > 0, ways, torch.inf).amin(dim=-1) if ways.shape[1] else 1.0
    slope = largest(program.c / spectrum.root)
    return (slope / near).clamp(LEAST, 1.0)


def _own(program: InequalityProgram, w: Points) -> Inequalities:
    """The sizes of the terms of each constraint."""
    return times(program.G.abs(), w.abs()) + program.h.abs()
