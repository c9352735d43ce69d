"""OptNet's layer: the solution of a quadratic program as a function of all its parameters."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from savi.implicit.policy import OnFailure
from savi.implicit.qp.kkt_inverse import KKTInverse
from savi.implicit.qp.matrices import outer, times
from savi.implicit.qp.program import QPData, checked
from savi.implicit.qp.solution import QPError, QPSolution, QPWarning, failures, tell
from savi.implicit.qp.solver import solve
from savi.implicit.reporter import Finding, ImplicitGradientError, ImplicitGradientWarning
from savi.inner.precision import full_precision
from savi.settings import Checked, setting
from savi.types import Equalities, Inequalities, Points

_WITHOUT = "implicit derivative of a quadratic program without its conditions in some examples"
_DEGENERATE = (
    "an active constraint has a multiplier of 0, active constraints are linearly dependent, or the "
    "solution is not unique (degenerate in the solution says where)"
)
_POLICIES = tuple(policy.value for policy in (OnFailure.WARN, OnFailure.RAISE, OnFailure.MASK))


@dataclass(eq=False, repr=False)
class QPLayer(Checked, nn.Module):
    """Solves a batch of convex quadratic programs and differentiates their solutions.

        minimise ½ xᵀQx + qᵀx  subject to  Ax = b,  Gx <= h

    for parameters of which each example may have its own, or all the same. Equalities or
    inequalities may be absent. Q counts by its symmetric part, and needs to be positive
    semidefinite only where Ax = b lets x move.

    The forward is Mehrotra's primal-dual interior-point method, in float64 whatever the type of the
    parameters, and then one exact step to the solution of the constraints that are active. What
    does not pass is solved again by a dual active-set method, in units that equilibrate. The
    factors of the last step serve the derivatives, by the implicit function theorem on the KKT
    conditions: ``backward``, ``torch.autograd.forward_ad``, and second derivatives. But for
    rounding, an example's result does not depend on the rest of its batch.

    The value of an example that failed is NaN, and so is the gradient of what multiplies it, as W
    in ``(value * W).sum()``: select by ``solution.solved`` first.

    B. Amos and J. Z. Kolter, *OptNet: Differentiable optimization as a layer in neural networks*,
    2017; eq. 10 of J. Chiu, *Applications of the Implicit Function Theorem*, 2021.

    Args:
        tolerance: of the relative KKT residual and duality gap of an example that counts as solved.
        max_steps: of the interior-point method.
        on_failure: ``warn`` gives examples without a solution a value of NaN and a gradient of 0,
            and says so; where the theorem's conditions fail, it uses one of several derivatives,
            and says so. ``raise`` raises in both cases. ``mask`` is silent in both: the gradient
            of both is 0, and ``solved`` and ``degenerate`` of the solution say where.

    Raises:
        InputError: for values out of range.
    """

    tolerance: float = setting(1e-10, at_least=1e-14, at_most=1e-4)
    max_steps: int = setting(60, at_least=1)
    on_failure: str = setting("warn", one_of=_POLICIES)

    def __post_init__(self) -> None:
        super().__post_init__()
        nn.Module.__init__(self)

    def extra_repr(self) -> str:
        """The settings."""
        return ", ".join(f"{field.name}={getattr(self, field.name)}" for field in fields(self))

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
            h: their right-hand sides, +∞ for one that is not there.

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
            solution, inverse = solve(plain, eps, self.tolerance, self.max_steps)
        if (message := failures(solution.status)) is not None:
            tell(self.on_failure, message, QPWarning, QPError)
        if self.on_failure == OnFailure.MASK.value:
            inverse = inverse.without_degenerate()
        known = (solution.value, solution.equality_multipliers, solution.inequality_multipliers)
        right = (v.expand(plain.batch, -1) for v in (-data.q, data.b, data.h))
        system = (data.Q, data.A, data.G, *right)
        x, y, z = _KKTSolve.apply(inverse, known, self.on_failure, *system)
        solution = replace(solution, value=x, equality_multipliers=y, inequality_multipliers=z)
        return solution.to(q.dtype)


class _KKTSolve(torch.autograd.Function):
    """u = K⁻¹v for the symmetric K of Q, A and the active rows of G; 0 for failed examples.

    Where the active constraints I stay the same, the solution (x, y, z) of a quadratic program is
    that of a linear system with v = (−q, b, h):

        Qx + Aᵀy + Gᵀz = −q,   Ax = b,   (Gx)_I = h_I,   z_N = 0.

    u̇ = K⁻¹(v̇ − K̇u), and with w = K⁻¹ū the cotangent of v is w and that of K is −w uᵀ. They are
    written in differentiable operations at u with its own derivative, so that those of higher order
    follow. The solution is known already; a derivative of a degenerate one is reported.
    """

    @staticmethod
    def forward(
        inverse: KKTInverse,
        known: tuple[Points, Equalities, Inequalities] | None,
        on_failure: str,
        *system: Tensor,
    ) -> tuple[Points, Equalities, Inequalities]:
        """By the factors that the solver ended with, unless u is known."""
        if known is None:
            return inverse.solve(*system[3:])
        x, y, z = (v.clone() for v in known)
        return x, y, z

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep u and what it depends on."""
        ctx.inverse, ctx.known, ctx.on_failure = inputs[:3]
        ctx.save_for_backward(*output, *inputs[3:])
        ctx.save_for_forward(*output, *inputs[3:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        """The cotangents of K and v."""
        given = [v for v in cotangents if v is not None]
        if not given:
            return (None,) * 9
        _report(ctx, given)
        x, y, z, Q, A, G = ctx.saved_tensors[:6]
        x, y, z = ctx.inverse.finite(x, y, z)
        vx, vy, vz = cotangents
        # The solve always needs a right-hand side for x.
        vx = torch.zeros_like(x) if vx is None else vx
        wx, wy, wz = _KKTSolve.apply(ctx.inverse, None, "", Q, A, G, vx, vy, vz)
        share, need = [M.shape[0] == 1 for M in (Q, A, G)], ctx.needs_input_grad[3:]
        return (
            None,
            None,
            None,
            -outer(wx, x, share[0]) if need[0] else None,
            -(outer(y, wx, share[1]) + outer(wy, x, share[1])) if need[1] else None,
            -(outer(z, wx, share[2]) + outer(wz, x, share[2])) if need[2] else None,
            wx,
            wy if need[4] else None,
            wz if need[5] else None,
        )

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor, Tensor, Tensor]:
        """K⁻¹(v̇ − K̇u)."""
        saved = ctx.saved_tensors
        u, system = saved[:3], saved[3:]
        if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in system):
            # Here the outputs have no derivative yet, which a later reverse pass will ask for.
            u = _KKTSolve.apply(ctx.inverse, ctx.known, ctx.on_failure, *system)
        x, y, z = ctx.inverse.finite(*u)
        dQ, dA, dG, *dv = tangents[3:]
        pairs = zip((x, y, z), dv, strict=True)
        vx, vy, vz = (torch.zeros_like(part) if d is None else d for part, d in pairs)
        if dQ is not None:
            vx = vx - times(dQ, x)
        if dA is not None:
            vx, vy = vx - times(dA.mT, y), vy - times(dA, x)
        if dG is not None:
            vx, vz = vx - times(dG.mT, z), vz - times(dG, x)
        _report(ctx, [vx, vy, vz])
        du: tuple[Tensor, Tensor, Tensor] = _KKTSolve.apply(
            ctx.inverse, None, "", *system[:3], vx, vy, vz
        )
        return du


def _report(ctx: Any, directions: list[Tensor]) -> None:
    """Say that a degenerate example of a quadratic program is differentiated.

    Raises:
        ImplicitGradientError: under ``raise``.
    """
    degenerate = ctx.inverse.degenerate
    if ctx.known is None or not degenerate.any():
        return
    needed = torch.stack([(v != 0).any(dim=-1) for v in directions]).any(dim=0)
    if count := int((degenerate & needed).sum()):
        found = Finding(_DEGENERATE, count, len(degenerate))
        tell(ctx.on_failure, _WITHOUT, ImplicitGradientWarning, ImplicitGradientError, found)
