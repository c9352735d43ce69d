"""Whether all numbers of a training step are finite, and which are not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from savi.vae.variance import whole_batch_mean


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether all numbers are finite; on several devices, whether those of all devices are.

    One pass over all tensors of a kind and one answer that is waited for. It is what the scaler of
    mixed precision looks for overflows with.
    """
    kinds: defaultdict[tuple[torch.device, torch.dtype], list[Tensor]] = defaultdict(list)
    for tensor in tensors:
        kinds[tensor.device, tensor.dtype].append(tensor.detach())
    # One for each kind.
    found = []
    for (device, _), same in kinds.items():
        found.append(torch.zeros(1, device=device, dtype=torch.float32))
        # Multiplies by 1 besides, which changes nothing.
        torch._amp_foreach_non_finite_check_and_unscale_(
            same, found[-1], torch.ones(1, device=device, dtype=torch.float32)
        )
    if not found:
        return True
    return not bool(whole_batch_mean(found[0] if len(found) == 1 else torch.cat(found)))


def gradients(module: nn.Module) -> list[Tensor]:
    """Those that a backward has left."""
    return [p.grad for p in module.parameters() if p.grad is not None]


def not_finite(module: nn.Module) -> list[str]:
    """The parameters whose gradient is not finite, by name."""
    return [
        name
        for name, p in module.named_parameters()
        if p.grad is not None and not bool(torch.isfinite(p.grad).all())
    ]


def in_words(loss: float, names: Sequence[str]) -> str:
    """What of a step is not finite: its loss, or else the gradients of the parameters named."""
    if loss - loss != 0:
        return f"the loss is {loss}"
    others = f" and of {len(names) - 1} more parameters" if len(names) > 1 else ""
    return f"the gradient of {names[0]}{others} is not finite" if names else "it is not finite"
