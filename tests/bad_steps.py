"""Training steps that are broken on purpose."""

from collections.abc import Callable
from typing import Any

import torch

from savi.inference.outer_loss import OuterLoss

#: Whatever can be wrong with one.
KINDS = ("data", "loss", "gradient", "factorisation", "backward")


def breaking(
    faults: dict[int, str], rows: slice = slice(3, 4), seen: list[float] | None = None
) -> Callable[..., Any]:
    """An ``OuterLoss.__call__`` that breaks some of its calls, by their number, each in its way.

    ``rows`` are those of the broken data; ``seen`` is given the loss of every call before that.
    """
    plain, count = OuterLoss.__call__, iter(range(10**6))

    def outer_loss(self: OuterLoss, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        kind = faults.get(next(count))
        if kind == "data":
            x = x.clone()
            x[rows, 5] = torch.nan
        if kind == "factorisation":
            torch.linalg.cholesky(-torch.eye(2))
        step = plain(self, x, *args, **kwargs)
        if seen is not None:
            seen.append(float(step.loss.detach()))
        if kind == "loss":
            object.__setattr__(step, "loss", step.loss + torch.inf)
        if kind == "gradient":
            weight = next(self.model.decoder.parameters())
            # 0 with an infinite derivative.
            root = (weight - weight.detach()).square().sum().sqrt()
            object.__setattr__(step, "loss", step.loss + root)
        if kind == "backward":
            step.loss.register_hook(lambda _: torch.linalg.cholesky(-torch.eye(2)))
        return step

    return outer_loss
