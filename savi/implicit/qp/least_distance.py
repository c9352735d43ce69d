"""The point of a polyhedron that is nearest to another, by a dual active-set method.

Its decisions are signs and its steps are solutions of linear systems, so that no size decides when
it stops. C. Lawson and R. Hanson, *Solving Least Squares Problems*, 1974, for the problem;
D. Goldfarb and A. Idnani, *A numerically stable dual method for solving strictly convex quadratic
programs*, 1983, for constraints that depend on the active ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from savi.implicit.qp.matrices import Batched, or_one, times
from savi.types import Active, Constraints, Index, Inequalities, Mask, Points

#: Violations below this part of the terms of a constraint are rounding errors.
ROUNDING = 1e-14
#: sin of the angle below which a constraint counts as dependent on the active ones.
DEPENDENT = 1e-9


class Nearest(NamedTuple):
    """Where the method ended.

    Attributes:
        u: the nearest point.
        multipliers: of the constraints; they minimise a quadratic on λ >= 0.
        active: independent constraints that hold with equality.
        found: where there was nothing left to do; not where the steps ran out.
        ray: r >= 0 with Mᵀr = 0 and dᵀr < 0 where the constraints contradict each other, or 0.
    """

    u: Points
    multipliers: Inequalities
    active: Active
    found: Mask
    ray: Inequalities


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

    def solve(self, guess: Active) -> Nearest:
        """From a guess, of which independent rows with multipliers of the right sign are kept."""
        (batch, p), n = self.d.shape, self.v.shape[1]
        u, multipliers = -self.v, torch.zeros_like(self.d)
        found = torch.zeros(batch, dtype=torch.bool, device=u.device)
        active = self._independent(guess)
        fresh, ray = torch.ones_like(found), torch.zeros_like(self.d)
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
            now, kept, against = state.enter(worst, violated, now, kept)
            ray[index], possible = against, ~against.any(dim=-1)
            multipliers[index], active[index] = now.clamp_min(0.0), kept
            u[index] = point
            found[index] = ~blocked & ~violated
            more = blocked | (violated & possible)
            if not more.any():
                break
            if not more.all():
                index, part = index[more], part.take(more.nonzero(as_tuple=True)[0])
        return Nearest(u, multipliers, active, found, ray)

    def _independent(self, guess: Active) -> Active:
        """The guess of those examples in which its rows are independent."""
        n = self.v.shape[1]
        fits = guess.sum(dim=-1) <= n
        state = _Factored.of(self, guess & fits.unsqueeze(-1))
        fits &= (state.R.diagonal(dim1=-2, dim2=-1).abs() > DEPENDENT).all(dim=-1)
        return guess & fits.unsqueeze(-1)

    def most_violated(self, u: Points, active: Active) -> tuple[Index, Mask]:
        """The constraint that is violated most, and whether beyond rounding errors."""
        if not self.d.shape[1]:
            none = torch.zeros(len(u), dtype=torch.long, device=u.device)
            return none, none.bool()
        excess = times(self.M, u) - self.d
        terms = times(self.M.abs(), u.abs()) + self.own
        excess = torch.where(active | (excess <= ROUNDING * terms), 0.0, excess)
        most, worst = excess.max(dim=-1)
        return worst, most > 0


@dataclass(frozen=True)
class _Factored:
    """M_Iᵀ = QR for the active rows.

    Attributes:
        problem: whose rows they are.
        active: which are active.
        order: their numbers; an example with fewer than another has some of its inactive ones too.
        valid: which numbers are of active rows.
        Q: orthonormal columns that span the active rows, and 0 for the others.
        R: triangular, with the identity for the others.
    """

    problem: LeastDistance
    active: Active
    order: Int[Tensor, "B K"]
    valid: Bool[Tensor, "B K"]
    Q: Float[Tensor, "B n K"]
    R: Float[Tensor, "B K K"]

    @classmethod
    def of(cls, problem: LeastDistance, active: Active) -> _Factored:
        """Factorise the rows of all examples at once."""
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
        self, new: Index, where: Mask, multipliers: Inequalities, active: Active
    ) -> tuple[Inequalities, Active, Inequalities]:
        """Make a constraint active; one that depends on the others takes the place of another.

        Where none can give way to it, the constraints contradict each other: the third result is
        the ray that says so, and 0 elsewhere.
        """
        ray = torch.zeros_like(multipliers)
        if not where.any():
            return multipliers, active, ray
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
            exchanged = (dependent & torch.isfinite(length)).unsqueeze(-1)
            length = torch.where(torch.isfinite(length), length, 0.0).unsqueeze(-1)
            out = torch.nn.functional.one_hot(leaving, active.shape[1]).bool() & exchanged
            full = torch.zeros_like(multipliers).scatter(1, self.order, change)
            moved = multipliers - length * full + length * entering
            multipliers = torch.where(exchanged, torch.where(out, 0.0, moved), multipliers)
            stuck = dependent.unsqueeze(-1) & ~exchanged
            ray = torch.where(stuck, entering.to(full.dtype) - full, 0.0).clamp_min(0.0)
            active, entering = active & ~out, entering & ~stuck
        return multipliers, active | entering, ray

    def _triangular(self, v: Float[Tensor, "B K"], transpose: bool) -> Float[Tensor, "B K"]:
        """R⁻¹v, or R⁻ᵀv."""
        R = self.R.mT if transpose else self.R
        return torch.linalg.solve_triangular(R, v.unsqueeze(-1), upper=not transpose).squeeze(-1)
