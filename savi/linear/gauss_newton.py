"""The Gauss–Newton matrix in the Hessian's place: cheap, definite and biased."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from savi.errors import SettingError
from savi.linear.base import SOLVERS, LinearSolution, LinearStatus, SymmetricOperator, dot, rounding
from savi.linear.cholesky import factorise
from savi.linear.dense import DirectSolver


@SOLVERS.register("gauss_newton")
@dataclass(frozen=True)
class GaussNewtonSolve(DirectSolver):
    """u = C⁻¹ v with the positive definite Gauss–Newton matrix C, not with H itself.

    **Biased** where C ≠ H. With u* = H⁻¹v the error is u − u* = C⁻¹(H − C) u*, so that

        ‖u − u*‖ / ‖u*‖ ≤ ‖C⁻¹(H − C)‖,    ‖H u − v‖ / ‖v‖ = ‖(H − C) C⁻¹ v‖ / ‖v‖,

    and the residual returned is that of the true H: it shows the bias and does not fall with more
    work. ``SOLVED`` says that C u = v is solved. ``INDEFINITE`` reports a C that is not positive
    definite or a solution with uᵀHu ≤ 0; ``min_curvature`` is the smaller of uᵀHu / uᵀu and the
    smallest eigenvalue of C, and only the former bounds that of H.

    Args:
        inverse_iterations: steps of inverse iteration that estimate the smallest eigenvalue of C.

    Raises:
        InputError: if ``inverse_iterations`` is below 1, or the operator has no Gauss–Newton
            matrix.
    """

    name: ClassVar[str] = "gauss_newton"
    biased: ClassVar[bool] = True
    needs_gauss_newton: ClassVar[bool] = True

    def solve(self, operator: SymmetricOperator, rhs: Float[Tensor, "B P"]) -> LinearSolution:
        """Factorise C; one product with H shows how far the answer is off."""
        if operator.preconditioner is None:
            raise SettingError(
                "solver",
                "'gauss_newton' needs an objective with a Gauss-Newton matrix: this one has none, "
                "so take 'cholesky'",
            )
        blocks = operator.preconditioner()
        factorised = factorise(blocks, self.inverse_iterations)
        u = factorised.inverse(rhs)
        hu = operator.matvec(u)
        broken = ~torch.isfinite(hu).all(dim=-1)
        along_u = dot(u, hu) / dot(u, u)
        # 0/0 for v = 0, which says nothing about H.
        along_u = torch.where((u == 0).all(dim=-1), torch.inf, along_u)
        curvature = torch.where(broken, torch.nan, factorised.curvature.minimum(along_u))
        status = factorised.status.clone()
        zero = rounding(rhs.shape[-1], torch.linalg.matrix_norm(blocks))
        status[(status == LinearStatus.SOLVED) & (along_u <= zero)] = LinearStatus.INDEFINITE
        status[broken] = LinearStatus.SINGULAR

        def inverse(w: Float[Tensor, "B P"]) -> Float[Tensor, "B P"]:
            return torch.where(broken.unsqueeze(-1), 0.0, factorised.inverse(w))

        judged = replace(factorised, inverse=inverse, status=status, curvature=curvature)
        return judged.solution(lambda _: hu, rhs)
