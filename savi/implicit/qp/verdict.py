"""Whether what a method ended with solves a program, and whether another look is worth it."""

from __future__ import annotations

from dataclasses import replace

import torch

from savi.implicit.qp.active_set import Polished
from savi.implicit.qp.kkt_inverse import Factors
from savi.implicit.qp.matrices import Curvature, largest, times
from savi.implicit.qp.nullspace import Nullspace
from savi.implicit.qp.program import InequalityProgram, QPData
from savi.implicit.qp.residual import feasible, kinks, kkt_residual
from savi.implicit.qp.solution import QPSolution, QPStatus
from savi.implicit.qp.spectrum import spectral_residual
from savi.types import Mask, Symmetric

#: A coordinate between these parts of the largest is there, and its error may be hidden by others:
#: the middle one counts where the factors are well conditioned.
NONE, TINY, SMALL = 1e-13, 1e-7, 1e-4
#: Units of the variables that are further apart than this are made alike where Ax = b mixes them.
UNEVEN = 1e6
#: Multipliers below this part of the forces on their constraints may be rounding errors of these.
SHOWN = 1e-6
#: What a constraint may do to the objective, relative to the change of the constraint: rounding
#: errors of 1e-16 would leave seven digits.
LEVERAGE = 1e9


def judged(
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
    refine = active_set.refine | residual.faint
    factors = replace(factors, active_set=replace(active_set, refine=refine))
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
    small = torch.where(plain, TINY, SMALL).to(x.dtype).unsqueeze(-1)
    hidden = ((sizes < small * most) & (sizes > NONE * most)).any(dim=-1)
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


def _without_noise(Q: Symmetric, H: Curvature, space: Nullspace | None) -> Symmetric:
    """Q, such that the H that was judged and NᵀQN are the same."""
    if H.definite.all():
        return Q
    if space is None:
        return H.matrix
    N = space.basis
    return Q + N @ (H.matrix - N.mT @ Q @ N) @ N.mT
