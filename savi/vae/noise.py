"""The noise of a Monte Carlo inner objective: drawn once per solve, or redrawn at every step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from savi.types import Codes, Samples

#: The noise [S, B, d] of an inner step.
NoiseSchedule = Callable[[int], Tensor]


def antithetic_noise(
    samples: int, like: Codes, generator: torch.Generator | None = None
) -> Samples:
    """S standard normal samples in pairs (ε, −ε); an odd S leaves its last one unpaired.

    Pairs cancel every odd function of ε exactly: for an affine decoder the gradient in the mean
    of q is then free of noise.
    """
    shape = ((samples + 1) // 2, *like.shape)
    device = like.device if generator is None else generator.device
    half = torch.randn(shape, dtype=like.dtype, device=device, generator=generator)
    return torch.cat([half, -half])[:samples].to(like.device)


def orthogonal_noise(
    samples: int, like: Codes, generator: torch.Generator | None = None
) -> Samples:
    """Antithetic pairs along directions that are orthogonal in groups of d, all of norm √d.

    Each sample is unbiased to second moments (E εεᵀ = I), and S = 2d samples have them exactly,
    (1/S) Σ εεᵀ = I: an inner problem with this noise has far less to fit in the noise itself. For
    an affine decoder and S = 2d the Monte Carlo ELBO is the exact one.
    """
    d = like.shape[-1]
    draw = antithetic_noise(samples, like, generator)
    pairs = (samples + 1) // 2
    groups = [
        # The rows of Qᵀ are orthonormal and uniformly distributed.
        torch.linalg.qr(part.transpose(0, 1).mT)[0].mT.transpose(0, 1)
        for part in draw[:pairs].split(d)
    ]
    half = d**0.5 * torch.cat(groups)
    return torch.cat([half, -half])[:samples]


def common_noise(
    samples: int, like: Codes, generator: torch.Generator | None = None
) -> NoiseSchedule:
    """Common random numbers: one draw that all steps of the solve share."""
    noise = orthogonal_noise(samples, like, generator)
    return lambda step: noise


def fresh_noise(
    samples: int, like: Codes, generator: torch.Generator | None = None
) -> NoiseSchedule:
    """A draw of its own for every step, the same whenever a step is repeated."""
    device = "cpu" if generator is None else generator.device
    seed = int(torch.randint(2**62, (), generator=generator, device=device))

    def at_step(step: int) -> Tensor:
        return orthogonal_noise(samples, like, torch.Generator().manual_seed(seed + step))

    return at_step
