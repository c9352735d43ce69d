"""The noise of a Monte Carlo inner objective: drawn once per solve, or redrawn at every step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

#: The noise [S, B, d] of an inner step.
NoiseSchedule = Callable[[int], Tensor]


def antithetic_noise(
    samples: int, like: Float[Tensor, "B d"], generator: torch.Generator | None = None
) -> Float[Tensor, "S B d"]:
    """S standard normal samples in pairs (ε, −ε); an odd S leaves its last one unpaired.

    Pairs cancel every odd function of ε exactly: for an affine decoder the gradient in the mean
    of q is then free of noise.
    """
    shape = ((samples + 1) // 2, *like.shape)
    device = like.device if generator is None else generator.device
    half = torch.randn(shape, dtype=like.dtype, device=device, generator=generator)
    return torch.cat([half, -half])[:samples].to(like.device)


def common_noise(
    samples: int, like: Float[Tensor, "B d"], generator: torch.Generator | None = None
) -> NoiseSchedule:
    """Common random numbers: one draw that all steps of the solve share."""
    noise = antithetic_noise(samples, like, generator)
    return lambda step: noise


def fresh_noise(
    samples: int, like: Float[Tensor, "B d"], generator: torch.Generator | None = None
) -> NoiseSchedule:
    """A draw of its own for every step, the same whenever a step is repeated."""
    device = "cpu" if generator is None else generator.device
    seed = int(torch.randint(2**62, (), generator=generator, device=device))

    def at_step(step: int) -> Tensor:
        return antithetic_noise(samples, like, torch.Generator().manual_seed(seed + step))

    return at_step
