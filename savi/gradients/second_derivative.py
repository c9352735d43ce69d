"""Refusing a second derivative that would be silently wrong."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def refuse_second_derivative(
    backend: str, cotangents: tuple[Tensor | None, ...], links: tuple[Tensor, ...]
) -> tuple[Tensor | None, ...]:
    """What a custom backward returns when it cannot itself be differentiated.

    ``once_differentiable`` would not do: its refusal hangs on a leaf of its own, which
    ``autograd.grad(..., inputs)`` never visits, and the cotangents would pass for constants. Here
    they are linked to everything that they depend on, by a node that raises.

    Args:
        backend: the name in the message.
        cotangents: what the backward computed.
        links: the tensors that the cotangents depend on.
    """
    if not torch.is_grad_enabled():
        return cotangents
    return tuple(
        None if cotangent is None else _Refusal.apply(backend, cotangent, *links)
        for cotangent in cotangents
    )


def once_differentiable(
    backend: str, value: Float[Tensor, "B P"], graph: Float[Tensor, "B P"]
) -> Float[Tensor, "B P"]:
    """The numbers of ``value`` with the gradient of ``graph``, whose own derivative is refused.

    For a graph that leaves out a part of what ``value`` depends on, on purpose: its first
    derivative is what the backend declares, its second one would be neither that nor the truth.
    """
    return _OnceDifferentiable.apply(backend, value.detach(), graph)


class _Refusal(torch.autograd.Function):
    """The identity on a cotangent; its backward raises."""

    @staticmethod
    def forward(backend: str, cotangent: Tensor, *links: Tensor) -> Tensor:
        return cotangent.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep the name alone."""
        ctx.backend = inputs[0]

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> None:
        raise RuntimeError(
            f"gradient backend '{ctx.backend}' has no second derivative: take 'unrolled', or do "
            "not differentiate its gradient again"
        )


class _OnceDifferentiable(torch.autograd.Function):
    """λK, whose cotangent goes to ``graph``."""

    @staticmethod
    def forward(backend: str, value: Tensor, graph: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep the graph, which leads to all that the gradient depends on."""
        ctx.backend, _, graph = inputs
        ctx.save_for_backward(graph)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[None, None, Tensor | None]:
        """The cotangent itself."""
        (cotangent,) = refuse_second_derivative(ctx.backend, (v,), (v, *ctx.saved_tensors))
        return None, None, cotangent
