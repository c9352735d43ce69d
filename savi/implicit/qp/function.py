"""The implicit function theorem on the KKT conditions, in both modes and to every order."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from savi.gradients.certificate import ImplicitGradientError, ImplicitGradientWarning
from savi.implicit.qp.adjoint import KKT
from savi.implicit.qp.problem import QPData
from savi.implicit.qp.scaled import outer, times
from savi.implicit.qp.solve import Solved

_DEGENERATE = (
    "implicit derivative of a quadratic program without its conditions in some examples: an active "
    "constraint has a multiplier of 0, active constraints are linearly dependent, or the solution "
    "is not unique (degenerate in the solution says where)"
)


def attach(
    solved: Solved, data: QPData, on_failure: str
) -> tuple[Float[Tensor, "B n"], Float[Tensor, "B m"], Float[Tensor, "B p"]]:
    """x, y and z with their derivatives in Q, q, A, b, G and h.

    Args:
        solved: the solution of these programs.
        data: float64 parameters, as they shall receive derivatives.
        on_failure: ``raise`` refuses to differentiate a degenerate example, else it warns.
    """
    x, y, z = _Solution.apply(solved, on_failure, *data)
    return x, y, z


class _Solution(torch.autograd.Function):
    """(x, y, z), as functions of the parameters.

    With K u = v̄ the cotangents are those of −K⁻¹ times the parts of

        Qx + q + Aᵀy + Gᵀz = 0,   Ax = b,   (Gx)_I = h_I.

    They are written in differentiable operations at the solution with its own derivative, so that
    those of higher order follow.
    """

    @staticmethod
    def forward(
        solved: Solved, on_failure: str, *parameters: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The solution."""
        return solved.x.clone(), solved.y.clone(), solved.z.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep the solution and what it depends on."""
        ctx.solved, ctx.on_failure = inputs[:2]
        ctx.save_for_backward(*output, *inputs[2:])
        ctx.save_for_forward(*output, *inputs[2:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        """Minus the adjoint of the parts that depend on each parameter."""
        x, y, z, Q, _, A, _, G, _ = ctx.saved_tensors
        given = [v for v in cotangents if v is not None]
        if not given:
            return (None,) * 8
        kkt = ctx.solved.kkt
        _report(ctx.solved, given, ctx.on_failure)
        x, y, z = kkt.finite(x, y, z)
        ux, uy, uz = _KKTSolve.apply(kkt, Q, A, G, *_right_hand_side(cotangents, x))
        need, share = ctx.needs_input_grad[2:], [t.shape[0] == 1 for t in ctx.saved_tensors[3:]]

        def side(v: Tensor, shared: bool) -> Tensor:
            return v.sum(dim=0, keepdim=True) if shared else v

        return (
            None,
            None,
            -outer(ux, x, share[0]) if need[0] else None,
            -side(ux, share[1]) if need[1] else None,
            -(outer(y, ux, share[2]) + outer(uy, x, share[2])) if need[2] else None,
            side(uy, share[3]) if need[3] else None,
            -(outer(z, ux, share[4]) + outer(uz, x, share[4])) if need[4] else None,
            side(uz, share[5]) if need[5] else None,
        )

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor, Tensor, Tensor]:
        """−K⁻¹ [Q̇x + q̇ + Ȧᵀy + Ġᵀz, Ȧx − ḃ, Ġx − ḣ]."""
        solved, saved = ctx.solved, ctx.saved_tensors
        (x, y, z), parameters = saved[:3], saved[3:]
        dQ, dq, dA, db, dG, dh = tangents[2:]
        if torch.is_grad_enabled() and any(t.requires_grad for t in parameters):
            # Here the outputs have no derivative yet, which a later reverse pass will ask for.
            x, y, z = _Solution.apply(solved, ctx.on_failure, *parameters)
        x, y, z = solved.kkt.finite(x, y, z)
        vx, vy, vz = torch.zeros_like(x), torch.zeros_like(y), torch.zeros_like(z)
        if dQ is not None:
            vx = vx - times(dQ, x)
        if dq is not None:
            vx = vx - dq
        if dA is not None:
            vx, vy = vx - times(dA.mT, y), vy - times(dA, x)
        if db is not None:
            vy = vy + db
        if dG is not None:
            vx, vz = vx - times(dG.mT, z), vz - times(dG, x)
        if dh is not None:
            vz = vz + dh
        _report(solved, [vx, vy, vz], ctx.on_failure)
        u: tuple[Tensor, Tensor, Tensor] = _KKTSolve.apply(
            solved.kkt, parameters[0], parameters[2], parameters[4], vx, vy, vz
        )
        return u


class _KKTSolve(torch.autograd.Function):
    """u = K⁻¹v for the symmetric K of Q, A and the active rows of G; 0 for failed examples."""

    @staticmethod
    def forward(
        kkt: KKT, Q: Tensor, A: Tensor, G: Tensor, vx: Tensor, vy: Tensor, vz: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """By the factors that the solver ended with."""
        return kkt.solve(vx, vy, vz)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep u and the entries of K."""
        ctx.kkt = inputs[0]
        ctx.save_for_backward(*output, *inputs[1:])
        ctx.save_for_forward(*output, *inputs[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        """The vector w = K⁻¹ū goes to v, and −w uᵀ to K."""
        ux, uy, uz, Q, A, G = ctx.saved_tensors[:6]
        if all(v is None for v in cotangents):
            return (None,) * 7
        rhs = _right_hand_side(cotangents, ux)
        wx, wy, wz = _KKTSolve.apply(ctx.kkt, Q, A, G, *rhs)
        share = [t.shape[0] == 1 for t in (Q, A, G)]
        need = ctx.needs_input_grad
        return (
            None,
            -outer(wx, ux, share[0]) if need[1] else None,
            -(outer(uy, wx, share[1]) + outer(wy, ux, share[1])) if need[2] else None,
            -(outer(uz, wx, share[2]) + outer(wz, ux, share[2])) if need[3] else None,
            wx,
            wy if need[5] else None,
            wz if need[6] else None,
        )

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor, Tensor, Tensor]:
        """u̇ = K⁻¹(v̇ − K̇u)."""
        kkt, (ux, uy, uz, Q, A, G, *rhs) = ctx.kkt, ctx.saved_tensors
        dQ, dA, dG, dvx, dvy, dvz = tangents[1:]
        if torch.is_grad_enabled() and any(
            t is not None and t.requires_grad for t in (Q, A, G, *rhs)
        ):
            ux, uy, uz = _KKTSolve.apply(kkt, Q, A, G, *rhs)
        vx = torch.zeros_like(ux) if dvx is None else dvx
        vy = torch.zeros_like(uy) if dvy is None else dvy
        vz = torch.zeros_like(uz) if dvz is None else dvz
        if dQ is not None:
            vx = vx - times(dQ, ux)
        if dA is not None:
            vx, vy = vx - times(dA.mT, uy), vy - times(dA, ux)
        if dG is not None:
            vx, vz = vx - times(dG.mT, uz), vz - times(dG, ux)
        u: tuple[Tensor, Tensor, Tensor] = _KKTSolve.apply(kkt, Q, A, G, vx, vy, vz)
        return u


def _right_hand_side(
    cotangents: tuple[Tensor | None, ...], like: Float[Tensor, "B n"]
) -> tuple[Tensor | None, ...]:
    """The cotangents, with zeros for that of x, which the solve always needs."""
    vx, vy, vz = cotangents
    return torch.zeros_like(like) if vx is None else vx, vy, vz


def _report(solved: Solved, directions: list[Tensor], on_failure: str) -> None:
    """Say that a degenerate example is differentiated.

    Raises:
        ImplicitGradientError: under ``raise``.
    """
    if not solved.degenerate.any():
        return
    needed = torch.stack([(v != 0).any(dim=-1) for v in directions]).any(dim=0)
    count = int((solved.degenerate & needed).sum())
    if count and on_failure == "raise":
        raise ImplicitGradientError(f"{_DEGENERATE} ({count} examples)")
    if count:
        # The text holds no numbers, so that Python shows it once a run.
        warnings.warn(_DEGENERATE, ImplicitGradientWarning, stacklevel=2)
