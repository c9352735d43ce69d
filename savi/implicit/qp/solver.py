"""From the parameters of a batch to solutions, multipliers, statuses and factors.

Ax = b is eliminated first, for each group of examples whose A have the same rank. What is left has
inequalities only; where its solve fails, a proof is sought that there is no solution.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from savi.implicit.qp.active_set import solve_inequalities
from savi.implicit.qp.infeasibility import descent_ray, farkas_ray, feasible
from savi.implicit.qp.kkt_inverse import Factors, KKTInverse, Nullspace, rank_groups
from savi.implicit.qp.matrices import Curvature, largest, row_norms, take, times
from savi.implicit.qp.program import InequalityProgram, QPData, kkt_residual
from savi.implicit.qp.solution import QPSolution, QPStatus
from savi.types import Index, Points, Symmetric

#: A constraint whose slack and multiplier are both below this relative size is at a kink.
KINK = 1e-8
#: Equations that depend on the others contradict them above this relative error.
CONTRADICTION = 1e-9


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
    parts: list[tuple[Index | None, Factors]] = []
    for index, space in rank_groups(finite.A, len(usable)) if len(usable) else []:
        group = finite if index is None else finite.take(index)
        found, factors = _solve_group(group, space, eps, tolerance, max_steps)
        where = usable if index is None else usable[index]
        if len(where) == data.batch:
            solution, parts = found, [(None, factors)]
        else:
            solution.write(where, found)
            parts.append((where, factors))
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
) -> tuple[QPSolution, Factors]:
    """Eliminate Ax = b, solve, and judge what came out."""
    _, q, _, b, G, h = data
    q, b, h = (v.expand(data.batch, -1) for v in (q, b, h))
    x0 = torch.zeros_like(q) if space is None else times(space.inverse, b)
    program = _reduced(data._replace(q=q, h=h), space, x0, eps)
    data = data._replace(Q=_without_noise(data.Q, program.H, space))
    reduced = solve_inequalities(program, tolerance, max_steps)
    x, y, z, active_set = reduced.w, torch.zeros_like(b), reduced.z, reduced.active_set
    if space is not None:
        x = x0 + times(space.basis, reduced.w)
        y = -times(space.inverse.mT, times(data.Q, x) + q + times(G.mT, z))
    residual = kkt_residual(data, x, y, z)
    # Where no step to a vertex helped, it is not known which constraints are active.
    regular = reduced.polished & ~active_set.dependent & ~active_set.flat
    degenerate = residual.kink(KINK) | ~regular
    if space is not None and space.redundant:
        degenerate = torch.ones_like(degenerate)
    ran_out = reduced.steps >= max_steps
    status = torch.where(ran_out, QPStatus.MAX_STEPS, QPStatus.STALLED)
    status = torch.where(residual.error <= tolerance, QPStatus.SOLVED, status)
    solution = replace(
        QPSolution.unknown(data),
        value=x,
        equality_multipliers=y,
        inequality_multipliers=z,
        status=torch.where(program.H.negative, QPStatus.NON_CONVEX, status).to(torch.long),
        steps=reduced.steps,
        residual=residual.error,
        gap=residual.gap,
        active=active_set.mask > 0,
        degenerate=degenerate,
    )
    _judge(solution, data, space, program)
    return solution, Factors(data, space, active_set)


def _reduced(data: QPData, space: Nullspace | None, x0: Points, eps: float) -> InequalityProgram:
    """The program in w, for x = x0 + N w."""
    Q, q, _, _, G, h = data
    if space is None:
        return InequalityProgram(Curvature.judged(Q, eps, rotated=False), q, G, h)
    N = space.basis
    H = Curvature.judged(N.mT @ Q @ N, eps, rotated=True)
    return InequalityProgram(H, times(N.mT, q + times(Q, x0)), G @ N, h - times(G, x0))


def _without_noise(Q: Symmetric, H: Curvature, space: Nullspace | None) -> Symmetric:
    """Q, such that the H that was judged and NᵀQN are the same."""
    if H.definite.all():
        return Q
    if space is None:
        return H.matrix
    N = space.basis
    return Q + N @ (H.matrix - N.mT @ Q @ N) @ N.mT


def _judge(
    solution: QPSolution, data: QPData, space: Nullspace | None, program: InequalityProgram
) -> None:
    """Look for a proof that what was not solved has no solution."""
    status = solution.status
    if space is not None and space.redundant:
        _contradictions(solution, data, space)
    unsolved = (status == QPStatus.MAX_STEPS) | (status == QPStatus.STALLED)
    (index,) = unsolved.nonzero(as_tuple=True)
    if not len(index):
        return
    program = program.take(index)
    z, infeasible = farkas_ray(program.G, program.h)
    where = index[infeasible]
    status[where] = QPStatus.INFEASIBLE
    solution.farkas_inequalities[where] = z[infeasible]
    if space is not None:
        forces = times(take(data.G, where).mT, z[infeasible])
        solution.farkas_equalities[where] = -times(take(space.inverse, where).mT, forces)
    (rest,) = (~infeasible & ~program.H.definite).nonzero(as_tuple=True)
    if not len(rest):
        return
    index, program = index[rest], program.take(rest)
    d, unbounded = descent_ray(program.H.matrix, program.c, program.G)
    unbounded &= feasible(program.G, program.h)
    where, d = index[unbounded], d[unbounded]
    status[where] = QPStatus.UNBOUNDED
    solution.descent_ray[where] = d if space is None else times(take(space.basis, where), d)


def _contradictions(solution: QPSolution, data: QPData, space: Nullspace) -> None:
    """Equations that depend on the others and contradict them: y = −(b − A A⁺ b) is the proof."""
    rows = row_norms(data.A)
    b = (data.b / rows).expand(len(solution.status), -1)
    A, x0 = data.A / rows.unsqueeze(-1), times(space.inverse, data.b.expand_as(b))
    left = b - times(A, x0)
    terms = b.abs() + times(A.abs(), x0.abs())
    wrong = (left.abs() > CONTRADICTION * terms).any(dim=-1)
    solution.status[wrong] = QPStatus.INFEASIBLE
    solution.farkas_equalities[wrong] = (-left / rows)[wrong] / largest(left[wrong]).unsqueeze(-1)
