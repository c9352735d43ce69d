"""Quadratic trust-region problems, solved by bisection on their secular equation."""

import numpy as np
import torch
from inner_problems import randn, spd
from scipy.optimize import brentq
from torch import Tensor

from savi.inner import AutogradObjective
from savi.inner.trust_region import TrustRegion


def reference(hessian: Tensor, linear: Tensor, anchor: Tensor, radius: Tensor):
    """λ* and ν of min ½ yᵀHy − cᵀy subject to ‖y − λ0‖ ≤ r, one example after the other."""
    solutions, multipliers = [], []
    for h, c, a, r in zip(
        *(t.detach().numpy() for t in (hessian, linear, anchor, radius)), strict=True
    ):
        eigenvalues, vectors = np.linalg.eigh(0.5 * (h + h.T))
        b = vectors.T @ (c - h @ a)

        def excess(nu, eigenvalues=eigenvalues, b=b, r=r):
            return np.linalg.norm(b / (eigenvalues + nu)) - r

        inside = eigenvalues[0] > 0 and excess(0.0) <= 0.0
        lowest, highest = max(0.0, -eigenvalues[0]), np.linalg.norm(b) / r - eigenvalues[0]
        nu = 0.0 if inside else brentq(excess, lowest + 1e-12, highest + 1.0, xtol=1e-15)
        solutions.append(a + vectors @ (b / (eigenvalues + nu)))
        multipliers.append(nu)
    return torch.tensor(np.array(solutions)), torch.tensor(np.array(multipliers))


def quadratic_inputs(batch: int = 4, size: int = 3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """H, c, λ0 and r, all requiring grad: the constraint holds back all examples but the last."""
    hessian, linear = spd(batch, size), 3.0 * randn(batch, size, seed=1)
    anchor = randn(batch, size, seed=2)
    distance = torch.linalg.vector_norm(torch.linalg.solve(hessian, linear) - anchor, dim=-1)
    share = torch.linspace(0.1, 0.8, batch, dtype=torch.float64)
    share[-1] = 1.5
    return tuple(t.requires_grad_() for t in (hessian, linear, anchor, share * distance))


def quadratic_region(
    hessian: Tensor, linear: Tensor, anchor: Tensor, radius: float | Tensor
) -> TrustRegion:
    """The same problem as an objective, with H's symmetric part."""

    def objective(y: Tensor) -> Tensor:
        hy = (hessian @ y.unsqueeze(-1)).squeeze(-1)
        return (y * (0.5 * hy - linear)).sum(dim=-1)

    return TrustRegion(AutogradObjective(objective), anchor, radius)
