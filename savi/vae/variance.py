"""The observation variance γ of p(x|z) = N(μ(z), γI), in four ways.

γ is a variance (Dai, Wang and Wipf 2019, arXiv 1912.10702). Without a floor and without
dequantisation a free γ can go to 0 and the bound to infinity, so every free γ has a floor.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

from savi.errors import SettingError
from savi.registry import Registry
from savi.types import PerExample, Scalar

VARIANCES: Registry[type[ObservationVariance]] = Registry("model.gamma.mode")


class ObservationVariance(nn.Module, ABC):
    """γ as a module.

    Args:
        dim: D, the number of observed dimensions.
        value: the value to start at (or to stay at, if fixed).
        floor: the least value that a free γ can take.

    Attributes:
        free: whether γ moves in training, so that it needs a floor.

    Raises:
        InputError: if ``value`` or ``floor`` is not above 0, or a γ that is free does not start
            above its floor.
    """

    free: ClassVar[bool] = True

    def __init__(self, dim: int, value: float, floor: float = 1e-6) -> None:
        super().__init__()
        if not 0 < value < math.inf:
            raise SettingError("value", f"is {value}: set it above 0, it is a variance")
        if not 0 < floor < math.inf:
            raise SettingError("floor", f"is {floor}: set it above 0")
        if self.free and value <= floor:
            raise SettingError(
                "value",
                f"is {value}, not above the floor {floor}: raise the value or lower the floor",
            )
        self.dim, self.floor = dim, floor

    @abstractmethod
    def forward(self) -> Float[Tensor, "#D"]:
        """γ: shape [1] if shared by all dimensions, [D] if each has its own."""

    def of_batch(self, squared_error: PerExample) -> Float[Tensor, "#D"]:
        """γ for the outer ELBO, given E_q‖x − μ(z)‖² of every example in the batch."""
        return self()

    @torch.no_grad()
    def observe(self, squared_error: PerExample) -> None:
        """Learn from a training batch outside of the gradient; most kinds have nothing to do."""


class _Buffer(ObservationVariance):
    """γ as a buffer, which no gradient reaches; it starts at ``value``."""

    gamma: Tensor

    def __init__(self, dim: int, value: float, floor: float = 1e-6) -> None:
        super().__init__(dim, value, floor)
        self.register_buffer("gamma", torch.tensor([float(value)]))

    def forward(self) -> Float[Tensor, "#D"]:
        """The current value."""
        return self.gamma


@VARIANCES.register("fixed")
class FixedVariance(_Buffer):
    """γ stays at ``value``, whatever the floor."""

    free = False


class _LogParameter(ObservationVariance):
    """γ = floor + exp(log_excess), which starts at ``value``."""

    def __init__(self, dim: int, value: float, floor: float, size: int) -> None:
        super().__init__(dim, value, floor)
        self.log_excess = nn.Parameter(torch.full((size,), math.log(value - floor)))

    def forward(self) -> Float[Tensor, "#D"]:
        """The current value."""
        return self.floor + self.log_excess.exp()


@VARIANCES.register("learned")
class LearnedVariance(_LogParameter):
    """One shared γ, learned by gradient on its logarithm."""

    def __init__(self, dim: int, value: float, floor: float = 1e-6) -> None:
        super().__init__(dim, value, floor, size=1)


@VARIANCES.register("per_pixel")
class PerPixelVariance(_LogParameter):
    """One learned γ for every observed dimension, shared by all examples."""

    def __init__(self, dim: int, value: float, floor: float = 1e-6) -> None:
        super().__init__(dim, value, floor, size=dim)


@VARIANCES.register("optimal")
class OptimalVariance(_Buffer):
    """γ* = (1/nD) Σ E_q‖x − μ(z)‖², the maximiser of the bound (Dai et al. 2019, eq. 10).

    The outer ELBO of a training batch uses the batch's own γ*; the inner problem and evaluation
    use a running mean, so that an example's inner solution does not depend on its batch. γ* is a
    maximiser, so by the envelope theorem it can be held constant in the gradient.
    """

    momentum = 0.1

    def of_batch(self, squared_error: PerExample) -> Float[Tensor, "#D"]:
        """γ* of this batch in training, the running mean in evaluation."""
        if not self.training:
            return self()
        mean = whole_batch_mean(squared_error.detach())
        return (mean / self.dim).clamp_min(self.floor).reshape(1)

    @torch.no_grad()
    def observe(self, squared_error: PerExample) -> None:
        """Move the running mean towards the batch's γ*."""
        # A new tensor: the graph of the batch, not yet backpropagated, holds the old one.
        self.gamma = self.gamma.lerp(self.of_batch(squared_error).to(self.gamma), self.momentum)


def whole_batch(values: Float[Tensor, "*R B"]) -> Float[Tensor, "*R N"]:
    """Those of all processes of a data-parallel job, each of which holds an equal share."""
    if not (dist.is_available() and dist.is_initialized()):
        return values
    parts = [torch.empty_like(values) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, values.contiguous())
    return torch.cat(parts, dim=-1)


def whole_batch_mean(values: PerExample) -> Scalar:
    """The mean over a batch, of which every process of a data-parallel job holds an equal share."""
    mean = values.mean()
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(mean)
        mean /= dist.get_world_size()
    return mean
