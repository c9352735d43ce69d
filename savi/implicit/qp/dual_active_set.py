"""A dual active-set method for the programs at which an interior point fails: slower, and exact.

Its decisions are signs and its steps are solutions of linear systems, so that no size decides when
it stops. D. Goldfarb and A. Idnani, *A numerically stable dual method for solving strictly convex
quadratic programs*, 1983; with proximal steps, D. Arnström, A. Bemporad and D. Axehill, *A dual
active-set solver for embedded quadratic programming using recursive LDLᵀ updates*, 2022.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from savi.implicit.qp.active_set import ActiveSet, Polished, polish
from savi.implicit.qp.matrices import Batched, largest, or_one, row_norms, times
from savi.implicit.qp.program import InequalityProgram, kkt_residual
from savi.implicit.qp.spectrum import Spectrum
from savi.types import Active, Constraints, Inequalities, Mask, Points

#: Violations below this part of the terms of a constraint are rounding errors.
ROUNDING = 1e-14
#: sin of the angle below which a constraint counts as dependent on the active ones.
DEPENDENT = 1e-9
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
    w, z, error = polish(program, active_set, found.w, found.z)
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
    running, reach = torch.ones_like(w[:, 0], dtype=torch.bool), torch.zeros_like(w[:, 0])
    active, ended = guess.clone(), ~running
    proximal = _first_proximal(program, spectrum)
    for _ in range(PROXIMAL_STEPS):
        (index,) = running.nonzero(as_tuple=True)
        some, part = program.take(index), spectrum.take(index)
        curvature = torch.maximum(part.values, proximal[index].unsqueeze(-1))
        basis = part.vectors / (part.root.unsqueeze(-1) * curvature.sqrt().unsqueeze(-2))
        gradient = times(some.H.matrix, w[index]) + some.c
        slack = some.h - times(some.G, w[index])
        M = some.G @ basis
        rows = row_norms(M)
        problem = LeastDistance(
            M / rows.unsqueeze(-1),
            slack / rows,
            times(basis.mT, gradient),
            _own(some, w[index]) / rows,
        )
        u, multipliers, kept, found = problem.solve(active[index])
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


def _first_proximal(program: InequalityProgram, spectrum: Spectrum) -> Tensor:
    """δ for which the slope goes as far in a step as the nearest constraint is away."""
    ways = program.h.abs() / row_norms(program.G / spectrum.root.unsqueeze(-2))
    near = torch.where(ways > 0, ways, torch.inf).amin(dim=-1) if ways.shape[1] else 1.0
    slope = largest(program.c / spectrum.root)
    return (slope / near).clamp(LEAST, 1.0)


def _own(program: InequalityProgram, w: Points) -> Inequalities:
    """The sizes of the terms of each constraint."""
    return times(program.G.abs(), w.abs()) + program.h.abs()


@dataclass(frozen=True)
class LeastDistance(Batched):
    """minimise ½‖u + v‖² subject to Mu <= d, for rows of M of norm 1.

    Attributes:
        M: constraints.
        d: their right-hand sides.
        v: minus the point from which the distance is.
        own: sizes that the rounding errors of d are relative to.
    """

    M: Constraints
    d: Inequalities
    v: Points
    own: Inequalities

    def solve(self, guess: Active) -> tuple[Points, Inequalities, Active, Mask]:
        """u, multipliers, independent active constraints, and where it ended well.

        The multipliers minimise a quadratic on λ >= 0. The guess is taken over where its rows are
        independent, without those whose multipliers are negative.
        """
        (batch, p), n = self.d.shape, self.v.shape[1]
        u, multipliers = -self.v, torch.zeros_like(self.d)
        active, found = self._independent(guess), torch.zeros_like(u[:, 0], dtype=torch.bool)
        fresh = torch.ones_like(found)
        index = torch.arange(batch, device=u.device)
        part = self
        for _ in range(10 * (n + p) + 20):
            state = _Factored.of(part, active[index])
            target, point = state.optimum()
            old = multipliers[index]
            negative = state.active & (target < 0)
            blocked = negative.any(dim=-1)
            # What the guess had wrong is dropped at once; later each step stops at the first sign.
            start = fresh[index]
            ratio = torch.where(negative, old / or_one(old - target), torch.inf)
            length = ratio.amin(dim=-1, keepdim=True) if p else old.new_zeros(len(old), 1)
            moved = old + length.clamp_max(1.0) * (target - old)
            dropped = torch.where(start.unsqueeze(-1), negative, negative & (ratio <= length))
            now = torch.where(blocked.unsqueeze(-1), moved, target)
            now = torch.where((start & blocked).unsqueeze(-1) | dropped, 0.0, now)
            kept = state.active & ~dropped
            fresh[index] = start & blocked
            worst, violated = part.most_violated(point, state.active)
            violated &= ~blocked
            now, kept, possible = state.enter(worst, violated, now, kept)
            multipliers[index], active[index] = now.clamp_min(0.0), kept
            u[index] = point
            found[index] = ~blocked & ~violated
            more = blocked | (violated & possible)
            if not more.any():
                break
            if not more.all():
                index, part = index[more], part.take(more.nonzero(as_tuple=True)[0])
        return u, multipliers, active, found

    def _independent(self, guess: Active) -> Active:
        n = self.v.shape[1]
        fits = guess.sum(dim=-1) <= n
        state = _Factored.of(self, guess & fits.unsqueeze(-1))
        fits &= (state.R.diagonal(dim1=-2, dim2=-1).abs() > DEPENDENT).all(dim=-1)
        return guess & fits.unsqueeze(-1)

    def most_violated(self, u: Points, active: Active) -> tuple[Tensor, Mask]:
        """The constraint that is violated most, and whether beyond rounding errors."""
        if not self.d.shape[1]:
            none = torch.zeros_like(u[:, 0], dtype=torch.long)
            return none, none.bool()
        excess = times(self.M, u) - self.d
        terms = times(self.M.abs(), u.abs()) + self.own
        excess = torch.where(active | (excess <= ROUNDING * terms), 0.0, excess)
        most, worst = excess.max(dim=-1)
        return worst, most > 0


@dataclass(frozen=True)
class _Factored:
    """M_Iᵀ = QR for the active rows, in an order that begins with them."""

    problem: LeastDistance
    active: Active
    order: Tensor
    valid: Mask
    Q: Tensor
    R: Tensor

    @classmethod
    def of(cls, problem: LeastDistance, active: Active) -> _Factored:
        most = int(active.sum(dim=-1).max()) if active.numel() else 0
        order = active.to(torch.int8).argsort(dim=-1, descending=True, stable=True)[:, :most]
        valid = active.gather(1, order)
        n = problem.v.shape[1]
        rows = problem.M.gather(1, order.unsqueeze(-1).expand(-1, -1, n)) * valid.unsqueeze(-1)
        Q, R = torch.linalg.qr(rows.mT)
        R = R + torch.diag_embed((~valid).to(R.dtype))
        return cls(problem, active, order, valid, Q * valid.unsqueeze(-2), R)

    def optimum(self) -> tuple[Inequalities, Points]:
        """λ and u where the active constraints hold with equality, whatever the signs."""
        problem = self.problem
        d = problem.d.gather(1, self.order) * self.valid
        position, along = self._triangular(d, transpose=True), times(self.Q.mT, problem.v)
        solved = self._triangular(position + along, transpose=False) * self.valid
        multipliers = torch.zeros_like(problem.d).scatter(1, self.order, -solved)
        # Twice, for what cancellation left of a long v.
        free = self._beside(self._beside(problem.v))
        return multipliers, times(self.Q, position) - free

    def _beside(self, v: Points) -> Points:
        """What is orthogonal to the active rows."""
        return v - times(self.Q, times(self.Q.mT, v))

    def enter(
        self, new: Tensor, where: Mask, multipliers: Inequalities, active: Active
    ) -> tuple[Inequalities, Active, Mask]:
        """Make a constraint active; one that depends on the others takes the place of another.

        Where none can give way to it, the constraints contradict each other.
        """
        possible = torch.ones_like(where)
        if not where.any():
            return multipliers, active, possible
        row = self.problem.M[torch.arange(len(new), device=new.device), new]
        inside, rest = times(self.Q.mT, row), self._beside(self._beside(row))
        dependent = where & (torch.linalg.vector_norm(rest, dim=-1) <= DEPENDENT)
        entering = torch.nn.functional.one_hot(new, active.shape[1]).bool()
        entering = entering & where.unsqueeze(-1)
        if dependent.any():
            change = self._triangular(inside * self.valid, transpose=False) * self.valid
            fall = torch.zeros_like(multipliers).scatter(1, self.order, change)
            fall = torch.where(fall > DEPENDENT, fall, 0.0)
            ratio = torch.where(fall > 0, multipliers / or_one(fall), torch.inf)
            length, leaving = ratio.min(dim=-1)
            possible = ~dependent | torch.isfinite(length)
            exchanged = (dependent & possible).unsqueeze(-1)
            length = torch.where(torch.isfinite(length), length, 0.0).unsqueeze(-1)
            out = torch.nn.functional.one_hot(leaving, active.shape[1]).bool() & exchanged
            full = torch.zeros_like(multipliers).scatter(1, self.order, change)
            moved = multipliers - length * full + length * entering
            multipliers = torch.where(exchanged, torch.where(out, 0.0, moved), multipliers)
            active = active & ~out
        return multipliers, active | (entering & possible.unsqueeze(-1)), possible

    def _triangular(self, v: Tensor, transpose: bool) -> Tensor:
        R = self.R.mT if transpose else self.R
        return torch.linalg.solve_triangular(R, v.unsqueeze(-1), upper=not transpose).squeeze(-1)
