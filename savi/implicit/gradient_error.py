"""How far the gradient (∂F/∂θ)ᵀu is off, which may be further than u is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.linalg import vector_norm

from savi.implicit.nearby import row_factors
from savi.inner.objective import InnerObjective, Linearization
from savi.linear.base import norm
from savi.types import Mask, Rows, Scalar


def gradient_error(
    objective: InnerObjective,
    linearization: Linearization,
    captured: Sequence[Tensor],
    v: Rows,
    u: Rows,
    newton_step: Rows,
    inverse: Callable[[Tensor], Tensor],
    rows: Mask,
    enough: float,
) -> Scalar:
    """The relative error of the θ-gradient of the batch, the worst over the tensors θ.

    θ may act on λ along a small component of u, or vary faster than F does. So both are moved on to
    the solution, λ' = λK + s by Newton's method and u' = u + H⁻¹(v − F_λ(λ')ᵀu) by what the
    Jacobian there leaves of v, and

        ‖F_θ(λ')ᵀu' − F_θ(λK)ᵀu‖ / ‖F_θ(λK)ᵀu‖

    is taken for every tensor; to second order in s it is the error. A gradient in which the
    examples cancel is not off for that: where the quotient is too large it is judged anew with a
    factor of its own for each example. Moving θ by its own size, what changes vᵀλ by less than
    √ε ‖v‖ ‖λ‖ counts as nothing. The price is a gradient with its graph and three pull-backs.

    Args:
        objective: the inner objective.
        linearization: F at λK.
        captured: θ, all that F depends on besides λ.
        v: the cotangent of λ.
        u: (∂F/∂λ)⁻ᵀv.
        newton_step: s.
        inverse: r ↦ H⁻¹r, as ``linearization.adjoint`` asks for it.
        rows: the examples that count.
        enough: a quotient that is small enough.
    """
    v, u, s = (torch.where(rows.unsqueeze(-1), t, 0.0) for t in (v, u, newton_step))
    point = linearization.point.detach()
    there = objective.linearize(objective.project(point + s))
    (product,) = there.pull_back([there.point], u)
    left = v if product is None else v - product
    u_there = torch.where(rows.unsqueeze(-1), u + linearization.adjoint(left, inverse), 0.0)
    unit = torch.finfo(v.dtype).eps ** 0.5 * (norm(v) * norm(point)).sum()
    here, moved = linearization.pull_back(captured, u), there.pull_back(captured, u_there)
    known = [
        (index, a, b, vector_norm(b - a))
        for index, (a, b) in enumerate(zip(here, moved, strict=True))
        if a is not None and b is not None
    ]
    worst = torch.zeros_like(unit)
    for index, a, b, off in known:
        size = captured[index].detach().abs().max()
        least = unit / torch.where(size > 0, size, torch.ones_like(size))
        scale = vector_norm(a).minimum(vector_norm(b)).maximum(least)
        if not off <= enough * scale:
            (apart,) = linearization.pull_back([captured[index]], row_factors(u) * u)
            if off <= enough * vector_norm(apart):
                scale = vector_norm(apart)
        worst = worst.maximum(off / scale)
    return worst.nan_to_num(nan=torch.inf)
