"""The optimisers of the outer loss, by the names that configs use."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch.optim import Optimizer

from savi.registry import Registry

#: What makes an optimiser from the parameters; its keywords, such as ``lr``, are its options.
OUTER_OPTIMIZERS: Registry[Callable[..., Optimizer]] = Registry("optimizer", supplied=1)
# The key of the learning rate's schedule, which no optimiser gets.
OUTER_OPTIMIZERS.reserve(["schedule"])


@OUTER_OPTIMIZERS.register("adam")
def adam(
    parameters: Iterable[torch.nn.Parameter], *, lr: float = 1e-3, weight_decay: float = 0.0
) -> Optimizer:
    """Adam (Kingma and Ba 2015), with the decoupled decay of AdamW (Loshchilov and Hutter 2019)."""
    return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay, fused=True)
