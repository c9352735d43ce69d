"""OptNet's layer: the solution of a quadratic program as a function of all its parameters."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from savi.errors import InputError, require_at_least, unknown_option
from savi.implicit.qp.function import attach
from savi.implicit.qp.problem import QPData, checked
from savi.implicit.qp.solution import QPSolution, report
from savi.implicit.qp.solve import Solved, solve
from savi.inner.precision import full_precision

POLICIES = ("warn", "raise")


class QPLayer(nn.Module):
    """Solves a batch of convex quadratic programs and differentiates their solutions.

        minimise ½ xᵀQx + qᵀx  subject to  Ax = b,  Gx <= h

    for parameters of which each example may have its own, or all the same. Equalities or
    inequalities may be absent. Q counts by its symmetric part, and needs to be positive
    semidefinite only where Ax = b lets x move.

    The forward is Mehrotra's primal-dual interior-point method, in float64 whatever the type of the
    parameters, and then one exact step to the solution of the constraints that are active. The
    factors of that step serve the derivatives, by the implicit function theorem on the KKT
    conditions: ``backward``, ``torch.autograd.forward_ad``, and second derivatives. But for
    rounding, an example's result does not depend on the rest of its batch.

    The value of an example that failed is NaN, and so is the gradient of what multiplies it, as W
    in ``(value * W).sum()``: select by ``solution.solved`` first.

    B. Amos and J. Z. Kolter, *OptNet: Differentiable optimization as a layer in neural networks*,
    2017; eq. 10 of J. Chiu, *Applications of the Implicit Function Theorem*, 2021.

    Args:
        tolerance: of the relative KKT residual of an example that counts as solved.
        max_steps: of the interior-point method.
        on_failure: ``warn`` gives examples without a solution a value of NaN and a gradient of 0,
            and says so; ``raise`` raises. The same is done about derivatives where the theorem's
            conditions fail.

    Raises:
        InputError: for values out of range.
    """

    def __init__(
        self, tolerance: float = 1e-10, max_steps: int = 60, on_failure: str = "warn"
    ) -> None:
        super().__init__()
        if not 1e-14 <= tolerance <= 1e-4:
            raise InputError(f"tolerance is {tolerance}: set it between 1e-14 and 1e-4")
        require_at_least("max_steps", max_steps, 1)
        if on_failure not in POLICIES:
            raise unknown_option("on_failure", on_failure, POLICIES)
        self.tolerance, self.max_steps, self.on_failure = tolerance, max_steps, on_failure

    def extra_repr(self) -> str:
        """The settings."""
        return (
            f"tolerance={self.tolerance}, max_steps={self.max_steps}, on_failure={self.on_failure}"
        )

    def forward(
        self,
        Q: Float[Tensor, "*B n n"],
        q: Float[Tensor, "*B n"],
        A: Float[Tensor, "*B m n"] | None = None,
        b: Float[Tensor, "*B m"] | None = None,
        G: Float[Tensor, "*B p n"] | None = None,
        h: Float[Tensor, "*B p"] | None = None,
    ) -> QPSolution:
        """Solve.

        Args:
            Q: quadratic term; each parameter with a batch dimension, or without if all share it.
            q: linear term.
            A: equality constraints, one row each.
            b: their right-hand sides.
            G: inequality constraints, one row each.
            h: their right-hand sides, +∞ for one that is not there. A large number instead makes
                the program badly scaled, and it may end as ``STALLED``.

        Raises:
            InputError: for shapes, types or devices that do not fit.
            QPError: under ``raise``, if an example has no solution.
        """
        given = checked(Q, q, A, b, G, h)
        data = QPData(*(parameter.double() for parameter in given))
        data = data._replace(Q=0.5 * (data.Q + data.Q.mT)).without_absent_bounds()
        plain = QPData(*(parameter.detach() for parameter in data))
        with torch.no_grad(), full_precision(q.device.type):
            eps = torch.finfo(q.dtype).eps
            solved = solve(plain, eps, self.tolerance, self.max_steps)
        report(solved.status, self.on_failure)
        return _solution(solved, plain, attach(solved, data, self.on_failure), q.dtype)


def _solution(
    solved: Solved, data: QPData, outputs: tuple[Tensor, Tensor, Tensor], dtype: torch.dtype
) -> QPSolution:
    x, y, z = (output.to(dtype) for output in outputs)
    return QPSolution(
        value=x,
        equality_multipliers=y,
        inequality_multipliers=z,
        status=solved.status,
        steps=solved.steps,
        residual=solved.residual.to(dtype),
        gap=solved.gap.to(dtype),
        active=solved.active,
        degenerate=solved.degenerate,
        farkas_equalities=solved.ray_y.to(dtype),
        farkas_inequalities=solved.ray_z.to(dtype),
        descent_ray=solved.ray_x.to(dtype),
        _data=data,
    )
