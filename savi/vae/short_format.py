"""Where float32 products may be computed in a shorter format, and gain by it."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor


def short_format(like: Tensor) -> torch.dtype | None:
    """bfloat16, if matrices like this one may be rounded to it and are multiplied faster then.

    PyTorch's switch for float32 products on CPUs is the permission; PyTorch itself makes no use of
    it for products as narrow as a decoder's. On GPUs there is TF32, which needs no other tensors.
    """
    allowed = torch.backends.mkldnn.matmul.fp32_precision == "bf16"  # type: ignore[attr-defined]
    on_cpu = like.device.type == "cpu" and like.dtype == torch.float32
    return torch.bfloat16 if allowed and on_cpu and has_short_products() else None


@cache
def has_short_products() -> bool:
    """Whether the processor multiplies bfloat16 itself; one that does not takes far longer."""
    # Older versions of PyTorch do not tell.
    known: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(known.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
