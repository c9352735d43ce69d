"""What every network has to be: a smooth function of one example alone, the same at every call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from savi.errors import InputError

#: Outputs that differ by less than this share of their size are the same.
TOLERANCE = 1e-4


def probe(network: nn.Module, owner: str, inputs: int, outputs: int, twice: bool) -> None:
    """Refuse a network that no inner problem could be solved with, by a few evaluations of it.

    Its buffers and the random state are left as they were.

    Args:
        network: it, from [..., inputs] to [..., outputs].
        owner: what a config calls it.
        inputs: the size of an input.
        outputs: the size of an output.
        twice: whether it has to have second derivatives.

    Raises:
        InputError: if it fails or returns another shape, if its outputs change from call to call,
            if those of one example depend on another, or if a derivative is missing.
    """
    with _untouched(network):
        x = torch.randn(4, inputs, generator=torch.Generator().manual_seed(0)).requires_grad_()
        first = _evaluated(network, owner, x, outputs)
        if not _same(first, _evaluated(network, owner, x, outputs)):
            raise InputError(
                f"{owner} gives other outputs at a second call: leave out what is random, such as "
                "dropout"
            )
        slope = None
        if first.requires_grad:
            (slope,) = torch.autograd.grad(first[0].sum(), x, allow_unused=True)
        if slope is None:
            raise InputError(f"{owner} has no derivative: compute the outputs from the inputs")
        moved = torch.cat([x[:1], 2.0 * x[1:] + 1.0])
        alone = _evaluated(network, owner, moved, outputs)[0]
        if slope[1:].any() or not _same(first[0], alone):
            raise InputError(
                f"{owner} lets examples of a batch influence each other: leave out what does, such "
                "as batch normalisation"
            )
        _evaluated(network, owner, x.expand(2, 4, -1), outputs)
        if twice:
            _require_second_derivatives(network, owner, x)


@contextmanager
def _untouched(network: nn.Module) -> Iterator[None]:
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            yield
    finally:
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)


def _evaluated(
    network: nn.Module, owner: str, x: Float[Tensor, "*batch D"], outputs: int
) -> Float[Tensor, "*batch F"]:
    expected = (*x.shape[:-1], outputs)
    try:
        y = network(x)
    except Exception as error:
        problem = " ".join(str(error).split())
        raise InputError(
            f"{owner} fails on inputs of shape {tuple(x.shape)} with {type(error).__name__}: "
            f"{problem}"
        ) from error
    shape = tuple(getattr(y, "shape", ()))
    if shape != expected:
        raise InputError(
            f"{owner} returns shape {shape} for inputs of shape {tuple(x.shape)}: return "
            f"{expected}, one vector for each input"
        )
    return y


def _require_second_derivatives(network: nn.Module, owner: str, x: Float[Tensor, "N D"]) -> None:
    try:
        value = network(x).square().sum()
        (slope,) = torch.autograd.grad(value, x, create_graph=True)
        torch.autograd.grad(slope.square().sum(), x)
        torch.func.jvp(network, (x.detach(),), (torch.ones_like(x),))
    except Exception as error:
        problem = " ".join(str(error).split()).partition(". ")[0]
        raise InputError(
            f"{owner} cannot be differentiated twice and in forward mode ({problem}): write it "
            "in differentiable operations"
        ) from error


def _same(a: Tensor, b: Tensor) -> bool:
    scale = a.detach().abs().max().clamp_min(torch.finfo(a.dtype).tiny)
    return bool(((a - b).detach().abs() <= TOLERANCE * scale).all())
