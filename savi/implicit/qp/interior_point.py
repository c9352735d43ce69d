"""Mehrotra's primal-dual interior-point method for a batch of convex quadratic programs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from savi.implicit.qp.scaled import Iterate, ScaledProblem, largest, lower_solve, or_one, times
from savi.linear.dense import safe_cholesky

#: The part of the way to the boundary that a step may take, at least.
TO_BOUNDARY = 0.99
#: The smallest μ that a step aims at, in units of the tolerance.
FLOOR = 0.1
#: Steps without progress after which an example is given up.
PATIENCE = 8
#: Finished examples leave the batch when at most this part of it is still running.
COMPACT = 0.75


@dataclass(frozen=True)
class Ended:
    """Where the iterations ended.

    Attributes:
        iterate: the last one, in the units of the problem.
        active: which constraints hold x back there, s < z in the units of the scaled problem.
        steps: taken, per example.
        converged: whether the scaled residuals fell below the tolerance.
    """

    iterate: Iterate
    active: Bool[Tensor, "B p"]
    steps: Int[Tensor, " B"]
    converged: Bool[Tensor, " B"]


@dataclass
class Progress:
    """The smallest error so far, and the steps since."""

    best: Float[Tensor, " B"]
    since: Int[Tensor, " B"]

    @classmethod
    def at_start(cls, like: Float[Tensor, "B k"]) -> Progress:
        """Nothing seen yet."""
        best = torch.full_like(like[:, 0] if like.shape[1] else like.sum(dim=-1), torch.inf)
        return cls(best, torch.zeros_like(best, dtype=torch.long))

    def stuck(self, error: Float[Tensor, " B"]) -> Bool[Tensor, " B"]:
        """Take note of an error; which examples it says to give up."""
        better = error < 0.9 * self.best
        self.best = torch.where(better, error, self.best)
        self.since = torch.where(better, 0, self.since + 1)
        return (self.since >= PATIENCE) | ~torch.isfinite(error)

    def take(self, index: Int[Tensor, " A"]) -> Progress:
        """Those of these examples."""
        return Progress(self.best[index], self.since[index])


def interior_point(
    H: Float[Tensor, "S k k"],
    c: Float[Tensor, "B k"],
    G: Float[Tensor, "S p k"],
    h: Float[Tensor, "B p"],
    definite: Bool[Tensor, " S"],
    tolerance: float,
    max_steps: int,
) -> Ended:
    """Minimise ½wᵀHw + cᵀw subject to Gw <= h for every example by itself.

    Each has its own step lengths, centring and stopping; those that are done leave the batch.

    Args:
        H: positive semidefinite.
        c: linear term.
        G: constraints, one row each.
        h: their right-hand sides.
        definite: which H are safely positive definite.
        tolerance: of the residuals of the scaled problem.
        max_steps: at most so many steps.
    """
    problem = ScaledProblem.scaled(H, c, G, h, definite)
    workspace = Workspace(problem)
    iterate = _start(problem, workspace)
    whole, result = problem, Iterate(*(torch.empty_like(v) for v in vars(iterate).values()))
    steps = torch.zeros(c.shape[0], dtype=torch.long, device=c.device)
    converged = torch.zeros_like(steps, dtype=torch.bool)
    index = torch.arange(c.shape[0], device=c.device)
    progress = Progress.at_start(c)
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
        iterate = _step(problem, iterate, (r_d, r_p, mu), FLOOR * tolerance, workspace)
    active = result.z > result.s
    return Ended(whole.unscaled(result), active, steps, converged)


def _start(problem: ScaledProblem, workspace: Workspace) -> Iterate:
    """The solution with z = −s and no signs, shifted until z > 0 and s > 0."""
    ones = torch.ones_like(problem.h)
    zeros = torch.zeros_like(problem.h)
    w, z, _ = Newton(problem, ones, ones, workspace).direction(problem.c, -problem.h, zeros)
    return Iterate(w, _positive(z), _positive(-z))


def _positive(v: Float[Tensor, "B p"]) -> Float[Tensor, "B p"]:
    if not v.shape[-1]:
        return v
    lowest = v.amin(dim=-1, keepdim=True)
    return torch.where(lowest > 0, v, v + (1.0 - lowest))


def _residuals(problem: ScaledProblem, iterate: Iterate) -> tuple[Tensor, Tensor, Tensor, Tensor]:
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
    problem: ScaledProblem,
    at: Iterate,
    residuals: tuple[Tensor, Tensor, Tensor],
    least: float,
    workspace: Workspace,
) -> Iterate:
    """The predictor, and the corrector with its centring σ = (μ_affine/μ)³.

    It aims at no μ below ``least``: where z/s leaves the range of the float type, rounding errors
    of dw would spoil the multipliers.
    """
    r_d, r_p, mu = residuals
    newton = Newton(problem, at.z, at.s, workspace)
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
    fastest = torch.maximum(_fall(at.z, dz), _fall(at.s, ds))
    return 1.0 / fastest.clamp_min(1e-30)


def _fall(v: Float[Tensor, "B p"], dv: Float[Tensor, "B p"]) -> Float[Tensor, "B 1"]:
    if not v.shape[-1]:
        return v.sum(dim=-1, keepdim=True)
    return (-dv / v).amax(dim=-1, keepdim=True)


#: What is added to the diagonal of a normal matrix that Cholesky refuses, relative to its size.
JITTER = 1e-10


class Workspace:
    """Memory for the matrices of a step, which is taken once and not in every step."""

    def __init__(self, problem: ScaledProblem) -> None:
        batch, p = problem.h.shape
        k = problem.c.shape[1]
        self._weighted = problem.h.new_empty(batch, p, k)
        self._normal = problem.h.new_empty(batch, k, k)
        self._factor = problem.h.new_empty(batch, k, k)

    def factorised(self, problem: ScaledProblem, D: Float[Tensor, "A p"]) -> Float[Tensor, "A k k"]:
        """L of H + GᵀDG = LLᵀ; it is overwritten by the next call."""
        batch = len(D)
        H, G = (M.expand(batch, -1, -1) for M in (problem.H, problem.G))
        weighted, normal = self._weighted[:batch], self._normal[:batch]
        factor = self._factor[:batch].mT
        torch.mul(G, D.unsqueeze(-1), out=weighted)
        torch.baddbmm(H, G.mT, weighted, out=normal)
        normal.diagonal(dim1=-2, dim2=-1).add_(problem.proximal)
        info = torch.empty(batch, dtype=torch.int32, device=D.device)
        torch.linalg.cholesky_ex(normal, out=(factor, info))
        refused = info != 0
        if refused.any():
            factor[refused] = _jittered(normal[refused])
        return factor


def _jittered(blocks: Float[Tensor, "F k k"]) -> Float[Tensor, "F k k"]:
    jitter = JITTER * or_one(largest(blocks.diagonal(dim1=-2, dim2=-1)))
    blocks.diagonal(dim1=-2, dim2=-1).add_(jitter.unsqueeze(-1))
    return safe_cholesky(blocks)[0]


class Newton:
    """The Newton system of an iterate, factorised once for the predictor and the corrector.

    With D = diag(z/s), (H + GᵀDG) dw = −r_d − Gᵀ(D r_p − r_c/s), dz = D (G dw + r_p) − r_c/s and
    ds = −r_p − G dw.
    """

    def __init__(self, problem: ScaledProblem, z: Tensor, s: Tensor, workspace: Workspace) -> None:
        self.G, self.s, self.D = problem.G, s, z / s
        self.factor = workspace.factorised(problem, self.D)

    def direction(
        self, r_d: Float[Tensor, "B k"], r_p: Float[Tensor, "B p"], r_c: Float[Tensor, "B p"]
    ) -> tuple[Float[Tensor, "B k"], Float[Tensor, "B p"], Float[Tensor, "B p"]]:
        """dw, dz and ds."""
        constant = self.D * r_p - r_c / self.s
        rhs = -r_d - times(self.G.mT, constant)
        dw = lower_solve(self.factor, lower_solve(self.factor, rhs), transpose=True)
        move = times(self.G, dw)
        return dw, self.D * move + constant, -r_p - move
