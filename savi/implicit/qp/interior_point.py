"""Mehrotra's primal-dual interior-point method for a batch of convex quadratic programs.

S. Mehrotra, *On the implementation of a primal-dual interior point method*, 1992.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from savi.implicit.qp.matrices import Batched, largest, lower_solve, or_one, row_norms, times
from savi.implicit.qp.program import InequalityProgram
from savi.linear.dense import safe_cholesky
from savi.types import Active, Constraints, Counts, Inequalities, Mask, PerExample, Points

#: What is added to the diagonal of a scaled H that is not definite: a proximal term.
PROXIMAL = 1e-10
#: What is added to the diagonal of a normal matrix that Cholesky refuses, relative to its size.
JITTER = 1e-10
#: The part of the way to the boundary that a step may take, at least.
TO_BOUNDARY = 0.99
#: The smallest μ that a step aims at, in units of the tolerance.
FLOOR = 0.1
#: Steps without progress after which an example is given up.
PATIENCE = 8
#: Finished examples leave the batch when at most this part of it is still running.
COMPACT = 0.75


@dataclass
class Iterate(Batched):
    """A point with Gw + s = h, s >= 0, and the multipliers z >= 0."""

    w: Points
    z: Inequalities
    s: Inequalities


@dataclass(frozen=True)
class ScaledProgram(Batched):
    """H, c, G, h in units in which tolerances have a meaning.

    The rows of G have the norm 1, max|h| = 1 (or 0), and max(|H|, |c|) = 1.

    Attributes:
        length: the unit of w, per example.
        price: the unit of the objective, per example.
        rows: the norms of the rows of G before.
        proximal: what is added to the diagonal of H in the normal matrix.
    """

    H: Float[Tensor, "S n n"]
    c: Points
    G: Constraints
    h: Inequalities
    length: Float[Tensor, "B 1"]
    price: Float[Tensor, "B 1"]
    rows: Float[Tensor, "S p"]
    proximal: Float[Tensor, "S 1"]

    @classmethod
    def scaled(cls, program: InequalityProgram) -> ScaledProgram:
        """Bring a program to these units."""
        H, c, G = program.H.matrix, program.c, program.G
        rows = row_norms(G)
        h = program.h / rows
        size = largest(H.flatten(1)).unsqueeze(-1)
        # A cone has no length of its own; that of the objective is left.
        free = or_one(largest(c).unsqueeze(-1) / or_one(size))
        length = largest(h).unsqueeze(-1)
        length = torch.where(length > 0, length, free)
        price = or_one(torch.maximum(length.square() * size, length * largest(c).unsqueeze(-1)))
        factor = (length.square() / price).unsqueeze(-1)
        if H.shape[0] == 1 and bool((factor == factor[:1]).all()):
            factor = factor[:1]
        proximal = torch.where(program.H.definite, 0.0, PROXIMAL).to(c.dtype).unsqueeze(-1)
        c, G = c * (length / price), G / rows.unsqueeze(-1)
        return cls(H * factor, c, G, h / length, length, price, rows, proximal)

    def unscaled(self, iterate: Iterate) -> Iterate:
        """An iterate in the units of the program as it was given."""
        return Iterate(
            iterate.w * self.length,
            iterate.z * (self.price / self.length / self.rows),
            iterate.s * (self.length * self.rows),
        )


class Ended(NamedTuple):
    """Where the iterations ended.

    Attributes:
        iterate: the last one, in the units of the problem.
        active: which constraints hold x back there, s < z in the units of the scaled problem.
        steps: taken.
        converged: whether the scaled residuals fell below the tolerance.
    """

    iterate: Iterate
    active: Active
    steps: Counts
    converged: Mask


@dataclass
class Progress(Batched):
    """The smallest error so far, and the steps since."""

    best: PerExample
    since: Counts

    def stuck(self, error: PerExample) -> Mask:
        """Take note of an error: where it says to give up."""
        better = error < 0.9 * self.best
        self.best = torch.where(better, error, self.best)
        self.since = torch.where(better, 0, self.since + 1)
        return (self.since >= PATIENCE) | ~torch.isfinite(error)


def interior_point(program: InequalityProgram, tolerance: float, max_steps: int) -> Ended:
    """Minimise ½wᵀHw + cᵀw subject to Gw <= h for every example by itself.

    H is positive semidefinite, and the tolerance that of the residuals of the scaled problem. Each
    example has its own step lengths, centring and stopping; those that are done leave the batch.
    """
    problem = ScaledProgram.scaled(program)
    newton = Newton(problem)
    iterate = _start(problem, newton)
    whole, result = problem, Iterate(*(torch.empty_like(v) for v in vars(iterate).values()))
    steps = torch.zeros(len(problem.c), dtype=torch.long, device=problem.c.device)
    converged = torch.zeros_like(steps, dtype=torch.bool)
    index = torch.arange(len(steps), device=steps.device)
    progress = Progress(torch.full_like(problem.length[:, 0], torch.inf), torch.zeros_like(steps))
    running = torch.ones_like(converged)
    for step in range(max_steps + 1):
        r_d, r_p, mu, error = _residuals(problem, iterate)
        done = running & (error <= tolerance)
        given_up = running & ~done & (progress.stuck(error) | (step == max_steps))
        ended = done | given_up
        if ended.any():
            where = index[ended]
            result.w[where], result.z[where] = iterate.w[ended], iterate.z[ended]
            result.s[where] = iterate.s[ended]
            steps[where], converged[where] = step, done[ended]
            running = running & ~ended
            left = torch.nonzero(running).squeeze(-1)
            if not len(left):
                break
            if len(left) <= COMPACT * len(running):
                index, problem, iterate = index[left], problem.take(left), iterate.take(left)
                progress, running = progress.take(left), running[left]
                r_d, r_p, mu = r_d[left], r_p[left], mu[left]
        iterate = _step(problem, newton, iterate, (r_d, r_p, mu), FLOOR * tolerance)
    return Ended(whole.unscaled(result), result.z > result.s, steps, converged)


def _start(problem: ScaledProgram, newton: Newton) -> Iterate:
    """The solution with z = −s and no signs, shifted until z > 0 and s > 0."""
    ones = torch.ones_like(problem.h)
    newton.factorise(problem, ones, ones)
    w, z, _ = newton.direction(problem.c, -problem.h, torch.zeros_like(ones))
    return Iterate(w, _positive(z), _positive(-z))


def _positive(v: Inequalities) -> Inequalities:
    if not v.shape[-1]:
        return v
    lowest = v.amin(dim=-1, keepdim=True)
    return torch.where(lowest > 0, v, v + (1.0 - lowest))


def _residuals(
    problem: ScaledProgram, iterate: Iterate
) -> tuple[Points, Inequalities, PerExample, PerExample]:
    """r_d = Hw + c + Gᵀz, r_p = Gw + s − h, μ = sᵀz/p, and the largest of all relative ones."""
    w, z, s = iterate.w, iterate.z, iterate.s
    Hw, Gz = times(problem.H, w), times(problem.G.mT, z)
    r_d, r_p = Hw + problem.c + Gz, times(problem.G, w) + s - problem.h
    complementarity = s * z
    dual = largest(r_d) / torch.maximum(largest(Hw), largest(Gz)).clamp_min(1.0)
    primal = largest(r_p) / largest(w).clamp_min(1.0)
    size = largest(w).clamp_min(1.0) * largest(z).clamp_min(1.0)
    error = torch.stack([dual, primal, largest(complementarity) / size]).amax(dim=0)
    return r_d, r_p, complementarity.sum(dim=-1) / max(s.shape[-1], 1), error


def _step(
    problem: ScaledProgram,
    newton: Newton,
    at: Iterate,
    residuals: tuple[Points, Inequalities, PerExample],
    least: float,
) -> Iterate:
    """The predictor, and the corrector with its centring σ = (μ_affine/μ)³.

    It aims at no μ below ``least``: where z/s leaves the range of the float type, rounding errors
    of dw would spoil the multipliers.
    """
    r_d, r_p, mu = residuals
    newton.factorise(problem, at.z, at.s)
    complementarity = at.s * at.z
    _, dz, ds = newton.direction(r_d, r_p, complementarity)
    alpha = _to_boundary(at, dz, ds).clamp_max(1.0)
    affine = ((at.s + alpha * ds) * (at.z + alpha * dz)).sum(dim=-1) / max(dz.shape[-1], 1)
    centring = torch.maximum((affine / or_one(mu)).pow(3).clamp_max(1.0) * mu, mu.clamp_max(least))
    correction = complementarity + dz * ds - centring.unsqueeze(-1)
    dw, dz, ds = newton.direction(r_d, r_p, correction)
    closeness = (1.0 - mu.unsqueeze(-1)).clamp(TO_BOUNDARY, 1.0 - 1e-6)
    alpha = (closeness * _to_boundary(at, dz, ds)).clamp_max(1.0)
    return Iterate(at.w + alpha * dw, at.z + alpha * dz, at.s + alpha * ds)


def _to_boundary(at: Iterate, dz: Tensor, ds: Tensor) -> Float[Tensor, "B 1"]:
    """The largest step that keeps s >= 0 and z >= 0."""
    if not dz.shape[-1]:
        return dz.new_full((len(dz), 1), torch.inf)
    fall = torch.maximum(-dz / at.z, -ds / at.s).amax(dim=-1, keepdim=True)
    return 1.0 / fall.clamp_min(1e-30)


class Newton:
    """The Newton system of an iterate, factorised once for the predictor and the corrector.

    With D = diag(z/s), (H + GᵀDG) dw = −r_d − Gᵀ(D r_p − r_c/s), dz = D (G dw + r_p) − r_c/s and
    ds = −r_p − G dw. The memory of its matrices is taken once, and not in every step.
    """

    def __init__(self, problem: ScaledProgram) -> None:
        (batch, p), k = problem.h.shape, problem.c.shape[1]
        self._weighted = problem.h.new_empty(batch, p, k)
        self._normal, self._lower = (problem.h.new_empty(batch, k, k) for _ in range(2))

    def factorise(self, problem: ScaledProgram, z: Inequalities, s: Inequalities) -> None:
        """Take over an iterate, with L of H + GᵀDG = LLᵀ."""
        self.G, self.s, self.D, batch = problem.G, s, z / s, len(z)
        H, G = (M.expand(batch, -1, -1) for M in (problem.H, problem.G))
        weighted, normal = self._weighted[:batch], self._normal[:batch]
        self.factor = self._lower[:batch].mT
        torch.mul(G, self.D.unsqueeze(-1), out=weighted)
        torch.baddbmm(H, G.mT, weighted, out=normal)
        normal.diagonal(dim1=-2, dim2=-1).add_(problem.proximal)
        info = torch.empty(batch, dtype=torch.int32, device=z.device)
        torch.linalg.cholesky_ex(normal, out=(self.factor, info))
        refused = info != 0
        if refused.any():
            blocks = normal[refused]
            jitter = JITTER * or_one(largest(blocks.diagonal(dim1=-2, dim2=-1)))
            blocks.diagonal(dim1=-2, dim2=-1).add_(jitter.unsqueeze(-1))
            self.factor[refused] = safe_cholesky(blocks)[0]

    def direction(
        self, r_d: Points, r_p: Inequalities, r_c: Inequalities
    ) -> tuple[Points, Inequalities, Inequalities]:
        """dw, dz and ds."""
        constant = self.D * r_p - r_c / self.s
        rhs = -r_d - times(self.G.mT, constant)
        dw = lower_solve(self.factor, lower_solve(self.factor, rhs), transpose=True)
        move = times(self.G, dw)
        return dw, self.D * move + constant, -r_p - move
