"""The number format of the inner problem."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

#: Where PyTorch may replace float32 by a shorter format: products on GPUs (TF32) and CPUs (bf16).
_SWITCHES: tuple[Any, ...] = (
    torch.backends.cuda.matmul,
    torch.backends.cudnn.conv,  # type: ignore[attr-defined]
    torch.backends.mkldnn.matmul,  # type: ignore[attr-defined]
)


@contextmanager
def full_precision(device_type: str) -> Iterator[None]:
    """Keep a solve out of an outer autocast, and its float32 products in float32.

    bf16 inside costs accuracy for no speed. TF32 has 10 bits of mantissa: a stationarity of 1e-3
    would be its rounding error, and a certificate would judge noise.
    """
    with _formats("ieee", "ieee", "ieee"), torch.autocast(device_type, enabled=False):
        yield


#: Whether :func:`repeatable` is around.
_repeatable: ContextVar[bool] = ContextVar("repeatable", default=False)


@contextmanager
def short_products(wanted: bool = True) -> Iterator[None]:
    """Let the device multiply float32 matrices in its short formats, if it is faster at that.

    For matrices of which a few digits will do: they steer a search whose end is judged by exact
    values and gradients, or whatever they are is as good. Float64 is not touched.
    """
    allowed = wanted and not _repeatable.get()
    with _formats("tf32", "tf32", "bf16") if allowed else nullcontext():
        yield


@contextmanager
def repeatable(wanted: bool = True) -> Iterator[None]:
    """Keep :func:`short_products` as long as others, for steps that are repeated with a graph.

    Those know no short format, and must end where the first ones did.
    """
    token = _repeatable.set(wanted or _repeatable.get())
    try:
        yield
    finally:
        _repeatable.reset(token)


@contextmanager
def _formats(*formats: str) -> Iterator[None]:
    before = [switch.fp32_precision for switch in _SWITCHES]
    try:
        for switch, precision in zip(_SWITCHES, formats, strict=True):
            switch.fp32_precision = precision
        yield
    finally:
        for switch, precision in zip(_SWITCHES, before, strict=True):
            switch.fp32_precision = precision


class OrdinaryTensors(TorchFunctionMode):
    """Hand every torch function ordinary copies of inference tensors.

    An objective may close over tensors that were made in inference mode (a validation batch).
    Autograd needs to save them, which it refuses, so they are copied where they are used.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call ``func`` on the copies."""
        args, kwargs = tree_map_only(Tensor, _ordinary, (args, dict(kwargs or {})))
        return func(*args, **kwargs)


def _ordinary(tensor: Tensor) -> Tensor:
    return tensor.clone() if tensor.is_inference() else tensor
