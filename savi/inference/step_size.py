"""The step size at which inner solves begin, learned from those of training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from savi.errors import Conflict, InputError, refuse
from savi.inner.loop import JUDGED
from savi.inner.optimizers import OPTIMIZERS, InnerOptimizer
from savi.inner.solution import Solution, Status
from savi.vae.variance import whole_batch

#: How far one batch moves the step size, of the way in logarithms.
MOMENTUM = 0.1

#: Which of the examples' step sizes the next solves begin with.
QUANTILE = 0.75

#: The least step size beside ``lr``. In shorter steps float32 sees no decrease of J, and nothing
#: would lead back.
FLOOR = 2.0**-20


class AdaptedStepSize(nn.Module):
    """α, at which every solve begins: log α ← log α + 0.1 (log α' − log α), at most log lr.

    α' is the upper quartile of α_b over the batch, the step sizes that the examples' trials have
    led to: smaller where they were turned down. Each is the length at which J is least along its
    step, and steps as short as most examples would have them gain less in the end: the few
    directions of large curvature are where they are cautious, and the rest is where the gain is.
    Few steps leave no time to find α anew in every solve, and while the decoder is young it may be
    far from the one that suits the end of training. It stays above lr·2⁻²⁰.

    Args:
        lr: where α starts, and the most that it can be.
    """

    log_alpha: Tensor

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.log_ceiling = torch.tensor(lr).log()
        self.register_buffer("log_alpha", self.log_ceiling.clone())

    @classmethod
    def of(cls, inner: Mapping[str, Any], optimizer: InnerOptimizer) -> Self | None:
        """The step size that the ``inner`` group asks for, or None.

        Raises:
            InputError: where the optimiser's steps have none that moves, or no step is judged.
        """
        if not inner.get("adapt_lr", False):
            return None
        if not optimizer.adapts:
            able = " or ".join(name for name, kind in OPTIMIZERS.items() if kind.adapts)
            raise InputError(
                f"inner.adapt_lr with inner.optimizer '{optimizer.name}', whose trials move no "
                f"step size: set inner.optimizer={able}, or inner.adapt_lr=false"
            )
        steps, trusting = inner["max_steps"], inner.get("last_step", JUDGED) != JUDGED
        refuse(
            "inner.adapt_lr",
            [
                Conflict(
                    steps <= int(trusting),
                    f"inner.max_steps {steps}" + " and a last step on trust" * trusting,
                    "inner.max_steps higher, or inner.adapt_lr=false",
                    "where no step is judged",
                ),
            ],
        )
        return cls(optimizer.lr)  # type: ignore[attr-defined]

    def forward(self, optimizer: InnerOptimizer) -> InnerOptimizer:
        """The optimiser with this step size."""
        changed: dict[str, Any] = {"lr": float(self.log_alpha.exp())}
        return replace(cast(Any, optimizer), **changed)

    @torch.no_grad()
    def observe(self, optimizer: InnerOptimizer, solution: Solution) -> None:
        """Learn from a training batch; nothing from the examples whose solve has diverged."""
        found = optimizer.step_sizes(solution.state).log().to(self.log_alpha)
        known = torch.isfinite(found) & (solution.status != Status.DIVERGED)
        of_all = whole_batch(torch.where(known, found, torch.nan))
        quartile = of_all.nanquantile(QUANTILE) if of_all.numel() else self.log_alpha
        ceiling = self.log_ceiling.to(quartile)
        # Of examples that all diverged there is none.
        quartile = torch.where(quartile.isnan(), self.log_alpha, quartile)
        moved = self.log_alpha.lerp(quartile, MOMENTUM)
        self.log_alpha.copy_(moved.clamp(ceiling + math.log(FLOOR), ceiling))
