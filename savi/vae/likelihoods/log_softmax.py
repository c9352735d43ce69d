"""log softmax(o)_k of one level k each, of whose many logits autograd would make many copies."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import forward_ad

#: Logits of an entry, and the level whose probability is asked for.
Logits = Float[Tensor, "*batch L"]
Chosen = Int[Tensor, "*batch 1"]


def chosen_log_softmax(o: Logits, k: Chosen) -> Float[Tensor, "*batch 1"]:
    """o_k − log Σ_l exp o_l, differentiable to every order.

    With p = softmax(o), the gradient is e_k − p, and −∇² = diag(p) − p pᵀ: each is made of p in a
    pass or two over the logits. Transforms, forward mode and compiled graphs see PyTorch's own.
    """
    if torch.is_grad_enabled() and o.requires_grad and not _watched():
        return _LogSoftmax.apply(o, k)
    return o.log_softmax(dim=-1).gather(-1, k)


def score(o: Logits, k: Chosen, g: Float[Tensor, "*batch 1"]) -> Logits:
    """(e_k − p) g, the gradient of g log softmax(o)_k."""
    if _watched():
        return g * (torch.zeros_like(o).scatter(-1, k, 1.0) - o.softmax(dim=-1))
    if torch.is_grad_enabled() and (o.requires_grad or g.requires_grad):
        return _Score.apply(o, k, g)[0]
    return o.softmax(dim=-1).mul_(-g).scatter_add_(-1, k, g)


def _watched() -> bool:
    """Whether others than autograd look on, for whom a custom function has no rule."""
    transformed = torch._C._functorch.peek_interpreter_stack() is not None
    return transformed or torch.compiler.is_compiling() or forward_ad._current_level >= 0


class _LogSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(o: Tensor, k: Tensor) -> Tensor:
        return o.log_softmax(dim=-1).gather(-1, k)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None]:
        o, k = ctx.saved_tensors
        return score(o, k, cotangents[0]), None


class _Score(torch.autograd.Function):
    """(e_k − p) g."""

    @staticmethod
    def forward(o: Tensor, k: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        p = o.softmax(dim=-1)
        return (p * -g).scatter_add_(-1, k, g), p

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*inputs, output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, None, Tensor | None]:
        o, k, g, p = ctx.saved_tensors
        c = cotangents[0]
        if c is None:
            return None, None, None
        if torch.is_grad_enabled():
            # By differentiable operations, for whatever order is asked for.
            p = o.softmax(dim=-1)
            mean = (p * c).sum(dim=-1, keepdim=True)
            return p * (mean - c) * g, None, c.gather(-1, k) - mean
        mean = torch.linalg.vecdot(p, c).unsqueeze(-1)
        return (mean - c).mul_(p).mul_(g), None, c.gather(-1, k) - mean
