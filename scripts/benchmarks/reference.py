"""Minimisers and their derivatives in double precision, by means of their own.

Benchmarks judge the library by this file, so it shares no code with ``savi.inner``,
``savi.gradients`` or ``savi.linear``: dense Hessians, Newton's method and LU.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

#: J(y; θ): a batch y [B, P] and parameters θ [Q] to one value per example [B].
Energy = Callable[[Tensor, Tensor], Tensor]
Row = Float[Tensor, "1 P"]
Vector = Float[Tensor, " Q"]


def hessian(energy: Energy, y: Row, theta: Vector) -> Tensor:
    """∇²_y J at one point, [P, P]."""
    slope = torch.func.grad(lambda point: energy(point[None], theta)[0])
    return torch.func.jacrev(slope)(y[0].detach()).detach()


def gradient(energy: Energy, y: Row, theta: Vector) -> Tensor:
    """∇_y J at one point, [P]."""
    return torch.func.grad(lambda point: energy(point[None], theta)[0])(y[0].detach()).detach()


def minimiser(energy: Energy, theta: Vector, start: Row, *, max_steps: int = 1000) -> Row:
    """The local minimiser that descent from ``start`` leads to, in float64.

    Newton's method with every curvature replaced by its absolute value, so that each step
    descends, and halved until J falls: a saddle is left on the side on which the start lies. It
    ends when the steps are below 1e-13 of ‖y‖, or below 1e-6 and no longer shrink, which is
    as far as rounding lets an ill-conditioned problem be solved.

    Raises:
        RuntimeError: if it does not end, because there is no minimiser with a regular Hessian.
    """
    theta, y = theta.detach().double(), start.detach().double()
    last = torch.inf
    for _ in range(max_steps):
        slope = gradient(energy, y, theta)
        curvatures, axes = torch.linalg.eigh(hessian(energy, y, theta))
        floor = 1e-14 * curvatures.abs().max() + torch.finfo(torch.float64).tiny
        step = -axes @ ((axes.mT @ slope) / curvatures.abs().clamp_min(floor))
        size = float(step.norm() / (1.0 + y.norm()))
        if bool((curvatures > 0).all()) and (size <= 1e-13 or 0.5 * last < size <= 1e-6):
            return y + step
        y, last = _descend(energy, theta, y, step), size
    raise RuntimeError("the reference of a benchmark problem was not found: the problem has none")


def _descend(energy: Energy, theta: Tensor, y: Tensor, step: Tensor) -> Tensor:
    """The longest of the steps 1, ½, ¼, ... that lowers J, or the whole one near rounding."""
    value = energy(y, theta)
    for power in range(60):
        trial = y + 0.5**power * step
        if bool(energy(trial, theta) < value):
            return trial
    return y + step


def implicit_gradient(energy: Energy, theta: Vector, solution: Row, cotangent: Row) -> Vector:
    """(dλ*/dθ)ᵀ w = −(∂²J/∂y∂θ)ᵀ H⁻¹ w at a minimiser, in float64."""
    theta, y = theta.detach().double().requires_grad_(), solution.detach().double()
    u = torch.linalg.solve(hessian(energy, y, theta.detach()), cotangent[0].double())
    point = y.requires_grad_()
    (slope,) = torch.autograd.grad(energy(point, theta).sum(), point, create_graph=True)
    (product,) = torch.autograd.grad((slope[0] * u).sum(), theta)
    return -product
