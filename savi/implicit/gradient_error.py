"""How far the gradient (∂F/∂θ)ᵀu is off, which may be further than u is, or less far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.linalg import vector_norm

from savi.implicit.nearby import row_factors
from savi.inner.objective import InnerObjective, Linearization
from savi.linear.base import norm
from savi.types import Mask, PerExample, Rows


class GradientError(NamedTuple):
    """What a step towards the solution changes.

    Attributes:
        change: the relative change of the θ-gradient, the largest over the tensors θ: of each
            example where a tensor has a row for it, and of the batch otherwise.
        left: ‖s'‖ / ‖s‖ + ‖u' − u‖ / ‖u‖, the part of what there was to change that is still to
            come, to first order.
    """

    change: PerExample
    left: PerExample


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
) -> GradientError:
    """The relative error of the θ-gradient, as a step of Newton's method shows it.

    θ may act on λ along a small component of u, or vary faster than F does; or neither matters
    to it. So both are moved on to the solution, λ' = λK + s by Newton's method and
    u' = u + H⁻¹(v − F_λ(λ')ᵀu) by what the Jacobian there leaves of v, and

        ‖F_θ(λ')ᵀu' − F_θ(λK)ᵀu‖ / ‖F_θ(λK)ᵀu‖

    is taken for every tensor; to second order in s it is the error. A gradient in which the
    examples cancel is not off for that: where the quotient is too large it is judged anew with a
    factor of its own for each example. Moving θ by its own size, what changes vᵀλ by less than
    √ε ‖v‖ ‖λ‖ counts as nothing. The price is a gradient with its graph, three pull-backs or
    four, and two solves.

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
    here, moved = linearization.pull_back(captured, u), there.pull_back(captured, u_there)
    unit = torch.finfo(v.dtype).eps ** 0.5 * norm(v) * norm(point)
    worst = torch.zeros_like(unit)
    for tensor, a, b in zip(captured, here, moved, strict=True):
        if a is None or b is None or not tensor.numel():
            continue
        size = tensor.detach().abs()
        if _by_rows(linearization, tensor, u, rows):
            off, scale = _norms(b - a), _norms(a).minimum(_norms(b))
            scale = scale.maximum(unit / _or_one(size.reshape(len(u), -1).amax(dim=-1)))
        else:
            off, scale = vector_norm(b - a), vector_norm(a).minimum(vector_norm(b))
            scale = scale.maximum(unit.sum() / _or_one(size.max()))
            if not off <= enough * scale:
                (apart,) = linearization.pull_back([tensor], row_factors(u) * u)
                if off <= enough * vector_norm(apart):
                    scale = vector_norm(apart)
        worst = worst.maximum(off / scale)
    further = inverse(there.residual.detach())
    remaining = norm(further) / norm(s) + norm(u_there - u) / norm(u)
    return GradientError(
        worst.nan_to_num(nan=torch.inf), remaining.nan_to_num(nan=torch.inf, posinf=torch.inf)
    )


def _by_rows(linearization: Linearization, tensor: Tensor, u: Rows, rows: Mask) -> bool:
    """Whether θ has a row for each example: every other row of u then leaves the rest alone."""
    if len(u) == 1 or not tensor.ndim or len(tensor) != len(u):
        return False
    chosen = rows & (rows.cumsum(dim=0) % 2 == 1)
    (found,) = linearization.pull_back([tensor], torch.where(chosen.unsqueeze(-1), u, 0.0))
    return found is not None and not bool(found[~chosen].any())


def _norms(gradients: Tensor) -> PerExample:
    return vector_norm(gradients.reshape(len(gradients), -1), dim=-1)


def _or_one(size: Tensor) -> Tensor:
    return torch.where(size > 0, size, torch.ones_like(size))
