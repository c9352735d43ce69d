"""From the parameters of a batch to solutions, multipliers, statuses and factors.

Ax = b is eliminated first, for each group of examples whose A have the same rank. What is left has
inequalities only. What does not pass is solved again, in other units and by another method; where
that fails too, a proof is sought that there is no solution.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from savi.implicit.qp.active_set import Polished, solve_inequalities
from savi.implicit.qp.dual_active_set import solve_dually
from savi.implicit.qp.equilibration import Units
from savi.implicit.qp.infeasibility import descent_ray, farkas_ray
from savi.implicit.qp.kkt_inverse import Factors, KKTInverse, Nullspace, Part, rank_groups
from savi.implicit.qp.matrices import Curvature, largest, row_norms, times
from savi.implicit.qp.program import InequalityProgram, QPData, feasible, kinks, kkt_residual
from savi.implicit.qp.solution import QPSolution, QPStatus
from savi.implicit.qp.spectrum import spectral_residual
from savi.types import Index, Mask, Symmetric

#: A coordinate between these parts of the largest is there, and its error may be hidden by others.
NONE, SMALL = 1e-13, 1e-4
#: Units of the variables that are further apart than this are made alike where Ax = b mixes them.
UNEVEN = 1e6
#: Multipliers below this part of the forces on their constraints may be rounding errors of these.
SHOWN = 1e-6
#: What a constraint may do to the objective, relative to the change of the constraint: rounding
#: errors of 1e-16 would spoil eight digits.
LEVERAGE = 1e8


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
    solution, factors, doubtful = _judged(data, space, program, reduced, tolerance)
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
        found, factors, _ = _judged(group, space, program, reduced, tolerance)
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


def _judged(
    data: QPData,
    space: Nullspace | None,
    program: InequalityProgram,
    reduced: Polished,
    tolerance: float,
) -> tuple[QPSolution, Factors, Mask]:
    """The solution of the whole program, SOLVED or STALLED; and where it may be worth another try.

    Where the active constraints' system is well conditioned, its solution has all signs right, and
    no multiplier is small beside terms that cancel, nothing can hide an error. Everywhere else the
    solution is judged along eigenvectors of H.
    """
    _, q, _, b, G, _ = data
    data = data._replace(Q=_without_noise(data.Q, program.H, space))
    x, y, z, active_set = (
        reduced.w,
        torch.zeros_like(b.expand(data.batch, -1)),
        reduced.z,
        reduced.active_set,
    )
    active = active_set.mask > 0
    factors = Factors(data, space, active_set)
    if space is not None:
        x = times(space.inverse, b) + times(space.basis, reduced.w)
        y = -times(space.inverse.mT, times(data.Q, x) + q + times(G.mT, z))
        y = factors.shortest(y)
    residual = kkt_residual(data, x, y, z)
    # Where no step to a vertex helped, it is not known which constraints are active.
    regular = reduced.polished & ~(active_set.dependent | active_set.flat)
    right = torch.where(active, z, residual.slack) > 0
    shown = ~active | (residual.weight > SHOWN)
    plain = regular & ~active_set.refine & (right & shown).all(dim=-1)
    error = residual.error
    if not plain.all():
        (look,) = (~plain).nonzero(as_tuple=True)
        along, weight = spectral_residual(
            program.take(look), reduced.w[look], z[look], residual.take(look)
        )
        error = error.index_copy(0, look, torch.maximum(error[look], along))
        # A multiplier that is small beside terms that cancel may be large beside all the others.
        weight = torch.maximum(residual.weight[look], weight)
        residual = replace(residual, weight=residual.weight.index_copy(0, look, weight))
    solved = (error <= tolerance) & ~program.H.negative & (residual.leverage <= LEVERAGE)
    if not plain.all():
        solved[look] &= feasible(data.take(look), x[look], z[look])
    if space is not None and space.undecided is not None:
        solved &= ~space.undecided
    solution = replace(
        QPSolution.unknown(data),
        value=x,
        equality_multipliers=y,
        inequality_multipliers=z,
        status=torch.where(solved, QPStatus.SOLVED, QPStatus.STALLED).to(torch.long),
        steps=reduced.steps,
        residual=error,
        gap=residual.gap,
        active=active,
        degenerate=kinks(data, x, y, z, residual) | ~regular,
    )
    sizes, most = x.abs(), largest(x).unsqueeze(-1)
    hidden = ((sizes < SMALL * most) & (sizes > NONE * most)).any(dim=-1)
    if space is not None:
        hidden = hidden | _uneven(data) | ~shown.all(dim=-1)
    return solution, factors, ~(solved & reduced.polished) | hidden | active_set.dependent


def _uneven(data: QPData) -> Mask:
    """Where a null space mixes variables of so different units that the small ones lose digits."""
    units = [data.Q.diagonal(dim1=-2, dim2=-1).abs().sqrt()]
    if data.G.shape[1]:
        units.append(data.G.abs().amax(dim=-2))
    apart = [largest(u) > UNEVEN * torch.where(u > 0, u, torch.inf).amin(dim=-1) for u in units]
    return torch.stack(torch.broadcast_tensors(*apart)).any(dim=0)


def _reduced(data: QPData, space: Nullspace | None, eps: float) -> InequalityProgram:
    """The program in w, for x = A⁺b + N w."""
    Q, q, _, b, G, h = data
    q, h = (v.expand(data.batch, -1) for v in (q, h))
    if space is None:
        return InequalityProgram(Curvature.judged(Q, eps, rotated=False), q, G, h)
    N, x0 = space.basis, times(space.inverse, b).expand_as(q)
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
