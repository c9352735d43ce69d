"""From the parameters of a batch to solutions, multipliers, statuses and factors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from savi.implicit.qp.adjoint import KKT, Factors
from savi.implicit.qp.alternatives import descent_ray, farkas_ray, feasible
from savi.implicit.qp.problem import Curvature, QPData, curvature
from savi.implicit.qp.reduced import Nullspace, rank_groups, solve_reduced
from savi.implicit.qp.residual import kkt_residual
from savi.implicit.qp.scaled import largest, or_one, take, times
from savi.implicit.qp.solution import QPStatus

#: A constraint whose slack and multiplier are both below this relative size is at a kink.
KINK = 1e-8
#: Equations that depend on the others contradict them above this relative error.
CONTRADICTION = 1e-9


@dataclass
class Solved:
    """A batch of quadratic programs, solved; NaN in x, y and z where ``status`` is no SOLVED.

    Attributes:
        x: minimisers.
        y: multipliers of Ax = b.
        z: multipliers of Gx <= h.
        status: values of :class:`QPStatus`.
        steps: of the interior-point method.
        residual: relative KKT residual.
        gap: duality gap.
        active: which inequalities are active.
        degenerate: where the solution has no unique derivative.
        ray_x: a direction of endless descent where UNBOUNDED, else 0.
        ray_y: with ``ray_z``, Farkas' ray where INFEASIBLE, else 0.
        ray_z: see ``ray_y``.
        kkt: the factors; set once all parts are solved.
    """

    x: Float[Tensor, "B n"]
    y: Float[Tensor, "B m"]
    z: Float[Tensor, "B p"]
    status: Int[Tensor, " B"]
    steps: Int[Tensor, " B"]
    residual: Float[Tensor, " B"]
    gap: Float[Tensor, " B"]
    active: Bool[Tensor, "B p"]
    degenerate: Bool[Tensor, " B"]
    ray_x: Float[Tensor, "B n"]
    ray_y: Float[Tensor, "B m"]
    ray_z: Float[Tensor, "B p"]
    kkt: KKT | None = None

    @classmethod
    def nothing(cls, data: QPData, batch: int) -> Solved:
        """What is known of examples that are not finite."""
        n, m, p = data.Q.shape[-1], data.A.shape[1], data.G.shape[1]
        vector = data.Q.new_full((batch,), torch.nan)
        wide = [vector.unsqueeze(-1).repeat(1, size) for size in (n, m, p)]
        none = torch.zeros_like(vector, dtype=torch.long)
        no = torch.zeros_like(none, dtype=torch.bool)
        return cls(
            x=wide[0],
            y=wide[1],
            z=wide[2],
            status=torch.full_like(none, QPStatus.NOT_FINITE),
            steps=none,
            residual=vector,
            gap=vector.clone(),
            active=torch.zeros_like(wide[2], dtype=torch.bool),
            degenerate=no,
            ray_x=torch.zeros_like(wide[0]),
            ray_y=torch.zeros_like(wide[1]),
            ray_z=torch.zeros_like(wide[2]),
        )

    def write(self, index: Int[Tensor, " A"], part: Solved) -> None:
        """Put the solution of some examples into that of the batch."""
        for name, whole in vars(self).items():
            if name != "kkt":
                whole[index] = getattr(part, name)


def solve(data: QPData, eps: float, tolerance: float, max_steps: int) -> Solved:
    """Solve a batch in the precision of its parameters.

    Args:
        data: float64 parameters, Q symmetric.
        eps: the relative rounding error that the parameters came with.
        tolerance: of the relative KKT residual.
        max_steps: of the interior-point method.
    """
    batch = data.batch
    finite = data.finite
    usable = torch.nonzero(finite).squeeze(-1)
    parts: list[tuple[Tensor | None, Factors]] = []
    if len(usable) == batch:
        whole, parts = _by_rank(data, batch, None, (eps, tolerance, max_steps))
    else:
        whole = Solved.nothing(data, batch)
        if len(usable):
            kept = QPData(*(take(parameter, usable) for parameter in data))
            solved, parts = _by_rank(kept, len(usable), usable, (eps, tolerance, max_steps))
            whole.write(usable, solved)
    ok = whole.status == QPStatus.SOLVED
    for name in ("x", "y", "z"):
        value = getattr(whole, name)
        setattr(whole, name, torch.where(ok.unsqueeze(-1), value, torch.nan))
    whole.degenerate &= ok
    whole.active &= ok.unsqueeze(-1)
    whole.kkt = KKT(parts, data.A.shape[1], whole.active, ok.unsqueeze(-1))
    return whole


def _by_rank(
    data: QPData, batch: int, names: Tensor | None, options: tuple[float, float, int]
) -> tuple[Solved, list[tuple[Tensor | None, Factors]]]:
    """Solve the groups of examples with the same rank of A; ``names`` are their places."""
    groups = rank_groups(data.A, batch)
    if len(groups) == 1:
        solved, factors = _solve_group(data, batch, groups[0].space, *options)
        return solved, [(names, factors)]
    whole = Solved.nothing(data, batch)
    parts: list[tuple[Tensor | None, Factors]] = []
    for group in groups:
        assert group.index is not None
        part = QPData(*(take(parameter, group.index) for parameter in data))
        solved, factors = _solve_group(part, len(group.index), group.space, *options)
        whole.write(group.index, solved)
        parts.append((group.index if names is None else names[group.index], factors))
    return whole, parts


def _solve_group(
    data: QPData,
    batch: int,
    space: Nullspace | None,
    eps: float,
    tolerance: float,
    max_steps: int,
) -> tuple[Solved, Factors]:
    """Eliminate Ax = b, solve, and judge what came out."""
    Q, q, _, b, G, h = data
    q, b, h = (v.expand(batch, -1) for v in (q, b, h))
    if space is None:
        H, c, Gw, hw = curvature(Q, eps, rotated=False), q, G, h
        x0 = torch.zeros_like(q)
    else:
        N, x0 = space.basis, times(space.inverse, b)
        H = curvature(N.mT @ Q @ N, eps, rotated=True)
        c, Gw, hw = times(N.mT, q + times(Q, x0)), G @ N, h - times(G, x0)
    data = data._replace(Q=_without_noise(Q, H, space))
    reduced = solve_reduced(H, c, Gw, hw, tolerance, max_steps)
    factors = Factors(data, space, reduced.active_set)
    x, z = reduced.w, reduced.z
    y = torch.zeros_like(b)
    if space is not None:
        x = x0 + times(space.basis, reduced.w)
        y = -times(space.inverse.mT, times(Q, x) + q + times(G.mT, z))
    residual = kkt_residual(data, x, y, z)
    solved = Solved.nothing(data, batch)
    solved.x, solved.y, solved.z = x, y, z
    solved.steps, solved.residual, solved.gap = reduced.steps, residual.error, residual.gap
    solved.active = reduced.active_set.mask > 0
    # Where no step to a vertex helped, it is not known which constraints are active.
    regular = reduced.polished & ~reduced.active_set.dependent & ~reduced.active_set.flat
    solved.degenerate = residual.kink(KINK) | ~regular
    if space is not None and space.redundant:
        solved.degenerate = torch.ones_like(solved.degenerate)
    ran_out = reduced.steps >= max_steps
    status = torch.where(ran_out, QPStatus.MAX_STEPS, QPStatus.STALLED)
    status = torch.where(residual.error <= tolerance, QPStatus.SOLVED, status)
    solved.status = torch.where(H.negative, QPStatus.NON_CONVEX, status).to(torch.long)
    _judge(solved, data, space, Reduced(H, c, Gw, hw))
    return solved, factors


def _without_noise(
    Q: Float[Tensor, "S n n"], H: Curvature, space: Nullspace | None
) -> Float[Tensor, "S n n"]:
    """Q, such that the H that was judged and NᵀQN are the same."""
    if H.definite.all():
        return Q
    if space is None:
        return H.matrix
    N = space.basis
    return Q + N @ (H.matrix - N.mT @ Q @ N) @ N.mT


@dataclass(frozen=True)
class Reduced:
    """The program without equalities."""

    H: Curvature
    c: Float[Tensor, "B k"]
    G: Float[Tensor, "S p k"]
    h: Float[Tensor, "B p"]

    def take(self, index: Int[Tensor, " A"]) -> Reduced:
        """Those of these examples."""
        H = Curvature(*(take(field, index) for field in vars(self.H).values()))
        return Reduced(H, self.c[index], take(self.G, index), self.h[index])


def _judge(solved: Solved, data: QPData, space: Nullspace | None, reduced: Reduced) -> None:
    """Look for a proof that what was not solved has no solution."""
    if space is not None and space.redundant:
        _contradictions(solved, data, space)
    open_ = (solved.status == QPStatus.MAX_STEPS) | (solved.status == QPStatus.STALLED)
    if not open_.any():
        return
    index = torch.nonzero(open_).squeeze(-1)
    reduced = reduced.take(index)
    z, infeasible = farkas_ray(reduced.G, reduced.h)
    where = index[infeasible]
    solved.status[where] = QPStatus.INFEASIBLE
    solved.ray_z[where] = z[infeasible]
    if space is not None:
        forces = times(take(data.G, where).mT, z[infeasible])
        solved.ray_y[where] = -times(take(space.inverse, where).mT, forces)
    rest = torch.nonzero(~infeasible & ~reduced.H.definite).squeeze(-1)
    if not len(rest):
        return
    index, reduced = index[rest], reduced.take(rest)
    d, unbounded = descent_ray(reduced.H.matrix, reduced.c, reduced.G)
    unbounded &= feasible(reduced.G, reduced.h)
    where = index[unbounded]
    solved.status[where] = QPStatus.UNBOUNDED
    d = d[unbounded]
    solved.ray_x[where] = d if space is None else times(take(space.basis, where), d)


def _contradictions(solved: Solved, data: QPData, space: Nullspace) -> None:
    """Equations that depend on the others and contradict them: y = −(b − A A⁺ b) is the proof."""
    rows = or_one(torch.linalg.vector_norm(data.A, dim=-1))
    b = (data.b / rows).expand(len(solved.status), -1)
    A, x0 = data.A / rows.unsqueeze(-1), times(space.inverse, data.b.expand_as(b))
    left = b - times(A, x0)
    terms = b.abs() + times(A.abs(), x0.abs())
    wrong = (left.abs() > CONTRADICTION * terms).any(dim=-1)
    solved.status[wrong] = QPStatus.INFEASIBLE
    solved.ray_y[wrong] = (-left / rows)[wrong] / largest(left[wrong]).unsqueeze(-1)
