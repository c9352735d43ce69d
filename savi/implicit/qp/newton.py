"""The Newton system of an interior-point step."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from savi.implicit.qp.batched import largest, lower_solve, or_one, times
from savi.implicit.qp.scaled import ScaledProblem
from savi.linear.dense import safe_cholesky

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
