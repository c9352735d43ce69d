"""The quadratic programs that are timed."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

#: What is added to the eigenvalues of Q.
CURVATURE = 0.1


class Programs(NamedTuple):
    """minimise ½xᵀQx + qᵀx subject to Ax = b, Gx <= h; A and b are None without equalities."""

    Q: Float[Tensor, "B n n"]
    q: Float[Tensor, "B n"]
    A: Float[Tensor, "B m n"] | None
    b: Float[Tensor, "B m"] | None
    G: Float[Tensor, "B p n"]
    h: Float[Tensor, "B p"]

    @property
    def parameters(self) -> list[Tensor]:
        """Those that are there."""
        return [parameter for parameter in self if parameter is not None]


def random_programs(batch: int, variables: int, equalities: int, seed: int) -> Programs:
    """Dense strictly convex programs with as many inequalities as variables, all feasible.

    Q = LLᵀ/n + 0.1 I; q, A, G and a point x₀ are normal, b = Ax₀, and h = Gx₀ + uniform slack, so
    that about half of the inequalities hold x back.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, dtype=torch.float64, generator=generator)

    n, m = variables, equalities
    L, q, A, G, inside = normal(n, n), normal(n), normal(m, n), normal(n, n), normal(n, 1)
    Q = L @ L.mT / n + CURVATURE * torch.eye(n, dtype=torch.float64)
    slack = torch.rand(batch, n, dtype=torch.float64, generator=generator)
    h = (G @ inside).squeeze(-1) + slack
    b = (A @ inside).squeeze(-1)
    programs = Programs(Q, q, A if m else None, b if m else None, G, h)
    for parameter in programs.parameters:
        parameter.requires_grad_()
    return programs
