"""Softplus, several times faster on a CPU than PyTorch's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

#: PyTorch replaces softplus by the identity above a threshold of 20, a jump of exp(-20) = 2e-9 that
#: a solve in double precision can see. At 40 the jump, 4e-18, is below rounding.
THRESHOLD = 40.0


class Softplus(nn.Softplus):
    """h = log(1 + eᵃ).

    PyTorch's log1p takes eight times as long as its log, and softplus would be a fifth of a
    training step. With e = exp(−|a|) and u = 1 + e as it is rounded,

        h = max(a, 0) + log u − (u − 1 − e) / u,

    whose last term gives back what the rounding of u has lost: the relative error is that of the
    float type for every a. On GPUs and in compiled graphs PyTorch's own is one fused kernel, and in
    half precision it computes in float32.
    """

    def __init__(self) -> None:
        super().__init__(threshold=THRESHOLD)

    def forward(self, a: Tensor) -> Tensor:
        """Elementwise."""
        on_cpu = a.device.type == "cpu" and a.dtype in (torch.float32, torch.float64)
        if not on_cpu or torch.compiler.is_compiling() or _in_nested_forward_mode():
            return super().forward(a)
        return _Softplus.apply(a) if _derivative_is_asked() else _softplus(a)


def _derivative_is_asked() -> bool:
    """Whether autograd, forward mode or a transform looks on, which takes time of its own."""
    transformed = torch._C._functorch.peek_interpreter_stack() is not None
    return torch.is_grad_enabled() or transformed or forward_ad._current_level >= 0


def _in_nested_forward_mode() -> bool:
    """Whether tangents of tangents are asked for: those of a custom function would be 0."""
    levels = torch._C._functorch.get_interpreter_stack() or ()
    return sum(level.key() == torch._C._functorch.TransformType.Jvp for level in levels) > 1


def _softplus(a: Tensor) -> Tensor:
    e = a.abs().neg_().exp_()
    u = e + 1.0
    return a.clamp_min(0.0).add_(u.log()).add_(e.sub_(u - 1.0).div_(u))


class _Softplus(torch.autograd.Function):
    """With dh/da = sigmoid(a): differentiable to every order, and under ``vmap``.

    In forward mode once: PyTorch takes what ``jvp`` computes for a constant.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor) -> Tensor:
        return _softplus(a)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Tensor:
        (a,) = ctx.saved_tensors
        return cotangents[0] * a.sigmoid()

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        (a,) = ctx.saved_tensors
        return tangents[0] * a.sigmoid()
