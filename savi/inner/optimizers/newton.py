"""Newton's method with the exact Hessian, made safe for saddle points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from savi.inner.objective import InnerObjective
from savi.inner.optimizers.base import OPTIMIZERS
from savi.inner.optimizers.levenberg_marquardt import LevenbergMarquardt
from savi.linear.absolute import absolute
from savi.linear.dense import finite_blocks


@OPTIMIZERS.register("newton")
@dataclass(frozen=True)
class Newton(LevenbergMarquardt):
    """Solve (|H| + μ D) δ = −∇J and accept y + δ only where it lowers J.

    H = ∇²J(y) is exact, and |H| has its eigenvectors with the absolute eigenvalues: the
    saddle-free Newton step of Dauphin et al. (2014, arXiv 1406.2572), which is drawn to minima and
    repelled by saddle points and maxima. Where H is positive definite, |H| = H. Damping and
    acceptance are those of :class:`LevenbergMarquardt`: J never rises.

    Near a minimum the convergence is superlinear, where Gauss–Newton's is linear. It costs a
    Hessian a step: P Hessian-vector products, unless the objective knows better.

    Args:
        damping: the initial μ.
        max_damping: an example whose μ exceeds it has stalled.
    """

    name: ClassVar[str] = "newton"

    def matrix(
        self, objective: InnerObjective, y: Float[Tensor, "B P"], create_graph: bool
    ) -> Float[Tensor, "B P P"]:
        """|H|, by an eigendecomposition of those H alone that are not positive definite."""
        hessian = objective.exact_curvature(y, create_graph)
        with torch.no_grad():
            factor, info = torch.linalg.cholesky_ex(hessian)
            indefinite = (info != 0) | ~finite_blocks(factor)
            # One that is not finite has no decomposition, and gives no step.
            (rows,) = (indefinite & finite_blocks(hessian)).nonzero(as_tuple=True)
        if len(rows) == 0:
            return hessian
        return hessian.index_put((rows,), absolute(hessian[rows]))
