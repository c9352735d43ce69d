"""Sparsemax, the Euclidean projection onto the simplex, with its derivative in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from savi.errors import InputError
from savi.implicit.problem import Problem
from savi.implicit.reporter import Finding, say

_KINK = (
    "no derivative where a utility equals the threshold: that of an adjacent linear piece was "
    "taken (savi.implicit.sparsemax_solution shows which examples are degenerate)"
)

#: Steps of the float type at max(1, |θ|) within which a utility counts as equal to the threshold.
_ROUNDING = 4.0


@dataclass(frozen=True)
class SparsemaxSolution:
    """A solution of the KKT conditions of the projection onto the simplex.

    With the support S = {i: x_i > 0} of size k, x moves with θ as 1/k allows inside the polyhedron
    of all θ that have this support, and bends at its faces.

    Attributes:
        value: x, differentiable.
        support: x_i > 0.
        threshold: τ, minus the multiplier of 1ᵀx = 1.
        multipliers: those of x ≥ 0, max(τ − θ_i, 0).
        margin: the Euclidean distance of θ to the nearest kink, the smallest of
            (τ − θ_i) / √(1 + 1/k) off the support and (θ_i − τ) / √(1 − 1/k) on it; infinite for
            n = 1.
        degenerate: where a θ_i equals τ to rounding, so that x_i and its multiplier are both 0 and
            the projection has no derivative.
    """

    value: Float[Tensor, "*B n"]
    support: Bool[Tensor, "*B n"]
    threshold: Float[Tensor, " *B"]
    multipliers: Float[Tensor, "*B n"]
    margin: Float[Tensor, " *B"]
    degenerate: Bool[Tensor, " *B"]


def sparsemax(theta: Float[Tensor, "*B n"]) -> Float[Tensor, "*B n"]:
    """The point of the simplex that is nearest to θ (Martins and Astudillo 2016).

        x = argmin ½‖x − θ‖²  subject to  1ᵀx = 1, x ≥ 0;   x_i = max(θ_i − τ, 0)

    The threshold τ is the one at which x sums to 1, found by one sort. On the support S of size k
    the derivative is I − 11ᵀ/k and elsewhere 0, a symmetric matrix: vector products from either
    side cost O(n). Derivatives of all orders and both modes are right, those above the first being
    0, and ``torch.func`` transforms apply.

    Where a θ_i equals τ the projection has no derivative; to differentiate it there with a nonzero
    cotangent or tangent warns with
    :class:`~savi.implicit.reporter.ImplicitGradientWarning`. A utility of −∞ excludes its item.

    Args:
        theta: the utilities, projected along the last dimension.

    Raises:
        InputError: if ``theta`` has no last dimension with items, or is neither float32 nor
            float64.
    """
    _check(theta)
    value, _ = _Sparsemax.apply(theta)
    return value


def sparsemax_solution(theta: Float[Tensor, "*B n"]) -> SparsemaxSolution:
    """The projection of :func:`sparsemax` with its multipliers and its distance to a kink.

    Only ``value`` is differentiable.

    Raises:
        InputError: as for :func:`sparsemax`.
    """
    _check(theta)
    value, degenerate = _Sparsemax.apply(theta)
    with torch.no_grad():
        support = value > 0
        largest, centred = _centre(theta.detach())
        tau = _threshold(centred)
        gaps = centred - tau
        size = support.sum(dim=-1, keepdim=True).to(theta.dtype)
        # Where θ_i − τ changes by 1, in the direction of its gradient e_i − 1_S/k.
        slope = torch.where(support, 1.0 - 1.0 / size, 1.0 + 1.0 / size).sqrt()
        margin = (gaps.abs() / slope).amin(dim=-1)
    return SparsemaxSolution(
        value=value,
        support=support,
        threshold=(largest + tau).squeeze(-1),
        multipliers=(tau - centred).clamp_min(0.0),
        margin=margin,
        degenerate=degenerate,
    )


def simplex_projection_problem() -> Problem:
    """The problem that :func:`sparsemax` solves, for :func:`savi.implicit.kkt` with θ."""
    return Problem(
        objective=lambda x, theta: 0.5 * (x - theta).square().sum(dim=-1),
        equalities=lambda x, theta: x.sum(dim=-1, keepdim=True) - 1.0,
        inequalities=lambda x, theta: -x,
    )


def _check(theta: Tensor) -> None:
    if theta.dtype not in (torch.float32, torch.float64):
        raise InputError(
            f"sparsemax takes utilities in float32 or float64, not {theta.dtype}: convert them "
            "with theta.float()"
        )
    if theta.dim() == 0 or theta.shape[-1] == 0:
        raise InputError(
            f"sparsemax projects along the last dimension, which is empty in shape "
            f"{tuple(theta.shape)}: give at least one item"
        )


def _centre(theta: Float[Tensor, "*B n"]) -> tuple[Float[Tensor, "*B 1"], Float[Tensor, "*B n"]]:
    """The largest utility, and θ less it: the same x, with the rounding of numbers in [−1, 0]."""
    largest = theta.amax(dim=-1, keepdim=True)
    return largest, theta - largest


def _threshold(theta: Float[Tensor, "*B n"]) -> Float[Tensor, "*B 1"]:
    """The τ at which Σ max(θ_i − τ, 0) = 1.

    If the k largest utilities are the support, τ is (their sum − 1) / k, which is below the
    smallest of them; the largest such k is the support's size.
    """
    descending = theta.sort(dim=-1, descending=True).values
    sizes = torch.arange(1, theta.shape[-1] + 1, dtype=theta.dtype, device=theta.device)
    candidates = (descending.cumsum(dim=-1) - 1.0) / sizes
    # The size is at least 1 but for a θ that is not finite, whose τ and x are NaN.
    size = (descending > candidates).sum(dim=-1, keepdim=True).clamp_min(1)
    return candidates.gather(-1, size - 1)


class _Sparsemax(torch.autograd.Function):
    """θ ↦ x, and where θ is at a kink."""

    @staticmethod
    def forward(theta: Tensor) -> tuple[Tensor, Tensor]:
        largest, centred = _centre(theta)
        gaps = centred - _threshold(centred)
        rounding = _ROUNDING * torch.finfo(theta.dtype).eps * largest.abs().clamp_min(1.0)
        return gaps.clamp_min(0.0), gaps.abs().amin(dim=-1) <= rounding.squeeze(-1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        """Keep x, whose support is all that the derivative needs, and the kinks."""
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*output)
        ctx.save_for_forward(*output)

    @staticmethod
    def backward(ctx: Any, v: Tensor, _: Any) -> Tensor:
        """J v, as J is symmetric."""
        return _Derivative.apply(v, *ctx.saved_tensors)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> tuple[Tensor, None]:
        """J t."""
        return _Derivative.apply(tangent, *ctx.saved_tensors), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int], theta: Tensor) -> tuple[Any, tuple[int, int]]:
        """A mapped dimension is one more leading dimension."""
        return _Sparsemax.apply(theta.movedim(in_dims[0], 0)), (0, 0)


class _Derivative(torch.autograd.Function):
    """v ↦ J v with J = diag(s) − ssᵀ/k for the support s ∈ {0, 1}ⁿ, which says what has no J.

    An operation of its own, so that ``vmap`` can step aside for the warning, and so that J v
    stays a function of x, if a constant one: asked for a second derivative, it answers 0.
    """

    @staticmethod
    def forward(v: Tensor, value: Tensor, degenerate: Tensor) -> Tensor:
        # The numbers of a batch of cotangents (``is_grads_batched``) cannot be read.
        if not torch._C._functorch.is_legacy_batchedtensor(v):
            degenerate = degenerate & (v != 0).any(dim=-1)
        if bool(degenerate.any()):
            say("sparsemax", [Finding(_KINK, int(degenerate.sum()), degenerate.numel())])
        # As numbers, not as a mask: what is not finite in x or v is so in J v.
        support = value.sign()
        mean = (support * v).sum(dim=-1, keepdim=True) / support.sum(dim=-1, keepdim=True)
        return support * (v - mean)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep what J depends on."""
        ctx.save_for_backward(*inputs[1:])
        ctx.save_for_forward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, w: Tensor) -> tuple[Tensor, None, None]:
        """J w; J is constant near θ."""
        return _Derivative.apply(w, *ctx.saved_tensors), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
        """J t."""
        return _Derivative.apply(tangent, *ctx.saved_tensors)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Tensor) -> tuple[Tensor, int]:
        """A mapped dimension is one more leading dimension, of size 1 where it is not there."""
        leading = (
            x.unsqueeze(0) if dim is None else x.movedim(dim, 0)
            for x, dim in zip(inputs, in_dims, strict=True)
        )
        return _Derivative.apply(*leading), 0
