"""From the parameters of a batch to solutions, multipliers, statuses and factors.

Ax = b is eliminated first, for each group of examples whose A have the same rank. What is left has
inequalities only. What does not pass is solved again, in other units and by another method; where
that fails too, a proof is sought that there is no solution.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from savi.implicit.qp.active_set import solve_inequalities
from savi.implicit.qp.dual_active_set import solve_dually
from savi.implicit.qp.equilibration import Units
from savi.implicit.qp.infeasibility import descent_ray, farkas_ray
from savi.implicit.qp.kkt_inverse import KKTInverse, Part
from savi.implicit.qp.matrices import Curvature, row_norms, times
from savi.implicit.qp.nullspace import Nullspace, rank_groups
from savi.implicit.qp.program import InequalityProgram, QPData
from savi.implicit.qp.solution import QPSolution, QPStatus
from savi.implicit.qp.verdict import judged
from savi.types import Index


def solve(
    data: QPData, eps: float, tolerance: float, max_steps: int
) -> tuple[QPSolution, KKTInverse]:
    """Solve a batch of float64 parameters with a symmetric Q.

    The groups of finite examples with the same rank of A are solved one by one, to a relative KKT
    residual of ``tolerance``. The parameters came with relative rounding errors of ``eps``.

    Returns:
        The solutions, with NaN in x, y and z of an example that has none, and the inverse KKT
        matrices there.
    """
    (usable,) = data.finite.nonzero(as_tuple=True)
    finite = data if len(usable) == data.batch else data.take(usable)
    solution = QPSolution.unknown(data)
    parts: list[Part] = []
    for index, space in rank_groups(finite.A, len(usable)) if len(usable) else []:
        group = finite if index is None else finite.take(index)
        found, its_parts = _solve_group(group, space, eps, tolerance, max_steps)
        where = usable if index is None else usable[index]
        if len(where) == data.batch:
            solution, parts = found, its_parts
        else:
            solution.write(where, found)
            parts += [(where if i is None else where[i], factors) for i, factors in its_parts]
    ok = solution.solved.unsqueeze(-1)
    solution = replace(
        solution,
        value=torch.where(ok, solution.value, torch.nan),
        equality_multipliers=torch.where(ok, solution.equality_multipliers, torch.nan),
        inequality_multipliers=torch.where(ok, solution.inequality_multipliers, torch.nan),
        active=solution.active & ok,
        degenerate=solution.degenerate & solution.solved,
        _data=data,
    )
    return solution, KKTInverse(parts, data.A.shape[1], solution.active, ok, solution.degenerate)


def _solve_group(
    data: QPData, space: Nullspace | None, eps: float, tolerance: float, max_steps: int
) -> tuple[QPSolution, list[Part]]:
    """Eliminate Ax = b, solve, judge what came out, and solve again where it does not pass."""
    program = _reduced(data, space, eps)
    reduced = solve_inequalities(program, tolerance, max_steps)
    solution, factors, doubtful = judged(data, space, program, reduced, tolerance)
    parts: list[Part] = [(None, factors)]
    if not doubtful.any():
        return solution, parts
    ran_out = reduced.steps >= max_steps
    stalled = solution.status == QPStatus.STALLED
    solution.status[stalled & ran_out] = QPStatus.MAX_STEPS
    solution.status[stalled & program.H.negative] = QPStatus.NON_CONVEX
    again = doubtful & ~ran_out
    if again.any():
        (index,) = again.nonzero(as_tuple=True)
        parts += _solve_again(solution, data.take(index), index, eps, tolerance)
    _prove(solution, data, eps)
    return solution, parts


def _solve_again(
    solution: QPSolution, given: QPData, index: Index, eps: float, tolerance: float
) -> list[Part]:
    """By the dual method and in units that equilibrate: what then passes replaces what did not."""
    units = Units.equilibrating(given)
    data = units.scaled(given)
    parts: list[Part] = []
    guess = solution.active[index]
    for some, space in rank_groups(data.A, len(index)):
        some = torch.arange(len(index), device=index.device) if some is None else some
        group = data.take(some)
        program = _reduced(group, space, eps)
        reduced = solve_dually(program, guess[some])
        found, factors, _ = judged(group, space, program, reduced, tolerance)
        (better,) = found.solved.nonzero(as_tuple=True)
        if not len(better):
            continue
        where = index[some[better]]
        part, factors = units.take(some[better]), factors.take(better)
        x, y, z = part.given(*factors.polished(*found.take(better).point))
        factors = replace(factors, units=part)
        found = replace(
            found.take(better),
            value=x,
            equality_multipliers=factors.shortest(y),
            inequality_multipliers=z,
            steps=solution.steps[where],
        )
        solution.write(where, found)
        parts.append((where, factors))
    return parts


def _reduced(data: QPData, space: Nullspace | None, eps: float) -> InequalityProgram:
    """The program in w, for x = A⁺b + N w."""
    Q, q, _, b, G, h = data
    q, h = (v.expand(data.batch, -1) for v in (q, h))
    if space is None:
        return InequalityProgram(Curvature.judged(Q, eps), q, G, h)
    N, x0 = space.basis, times(space.inverse, b).expand_as(q)
    H = Curvature.judged(N.mT @ Q @ N, eps, lambda: N.abs().mT @ Q.abs() @ N.abs())
    return InequalityProgram(H, times(N.mT, q + times(Q, x0)), G @ N, h - times(G, x0))


def _prove(solution: QPSolution, data: QPData, eps: float) -> None:
    """Look for a proof that what was not solved has no solution."""
    status = solution.status
    unsolved = (status == QPStatus.MAX_STEPS) | (status == QPStatus.STALLED)
    (index,) = unsolved.nonzero(as_tuple=True)
    if not len(index):
        return
    y, z, infeasible, feasible = farkas_ray(data.take(index))
    where = index[infeasible]
    status[where] = QPStatus.INFEASIBLE
    solution.farkas_equalities[where] = y[infeasible]
    solution.farkas_inequalities[where] = z[infeasible]
    index = index[feasible]
    given = data.take(index)
    units = Units.equilibrating(given)
    scaled = units.scaled(given)
    for group, space in rank_groups(scaled.A, len(index)) if len(index) else []:
        some = torch.arange(len(index), device=index.device) if group is None else group
        program = _reduced(scaled.take(some), space, eps)
        d, unbounded = descent_ray(program)
        d = units.x[some] * (d if space is None else times(space.basis, d))
        d = d / row_norms(d).unsqueeze(-1)
        where = index[some[unbounded]]
        status[where] = QPStatus.UNBOUNDED
        solution.descent_ray[where] = d[unbounded]
