"""Moments of a data set, and the map from its values to the model's units.

Dequantisation, scaling and centring are NumPy's arithmetic, which stays on one thread. A batch is
too small to gain by a second one, and waiting for it at every operation is slow where the cores
are busy with other work.
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

# Rows that are converted to double precision at a time: a whole data set would not fit.
_ROWS = 4096


def mean_and_variance(
    values: Shaped[Tensor, "N D"],
) -> tuple[Float[Tensor, " D"], Float[Tensor, " D"]]:
    """Each dimension's mean and its variance (1/N) Σ (v - mean)², as float64."""
    mean = sum(rows.double().sum(0) for rows in values.split(_ROWS)) / len(values)
    squares = sum((rows.double() - mean).square_().sum(0) for rows in values.split(_ROWS))
    return mean, squares / len(values)


def covariance_eigenvalues(x: Float[Tensor, "N D"]) -> Float[Tensor, " D"]:
    """The eigenvalues λ_1 ≥ ... ≥ λ_D of the sample covariance (1/N) Σ (x - x̄)(x - x̄)ᵀ.

    The factor is 1/N, as in the maximum-likelihood solution of probabilistic PCA (Tipping and
    Bishop, 1999), so that the closed forms of a linear Gaussian VAE hold exactly on these data.

    Args:
        x: A data set, such as `TensorDataModule.split` returns; centred or not.
    """
    centred = x.double() - x.double().mean(0)
    return torch.linalg.eigvalsh(centred.T @ centred / len(x)).flip(0).clamp(min=0)


def uniform_noise(size: torch.Size, generator: torch.Generator) -> Float[Tensor, "..."]:
    """U ~ U[0, 1) in steps of 2⁻¹⁶, four numbers to each draw of 64 random bits.

    With steps that coarse, k + U is exact in float32 for every level k up to 255, so that it
    never leaves its bin [k, k + 1), as rounding would make a finer U do now and then.
    """
    words = torch.empty(-(-size.numel() // 4), dtype=torch.int64)
    words.random_(-(2**63), None, generator=generator)
    steps = words.view(torch.int16)[: size.numel()].view(size)
    noise = steps.numpy().astype(np.float32)
    noise *= np.float32(2**-16)
    noise += np.float32(0.5)
    return torch.from_numpy(noise)


@dataclass(frozen=True, eq=False)
class Units:
    """The map x = (k + U)/scale - mean from raw values k to the model's units x.

    ===================  =============  ======
    data                 U              scale
    ===================  =============  ======
    L levels, noisy      uniform [0,1)  L
    L levels, not noisy  0              L - 1
    continuous           0              1
    ===================  =============  ======

    To draw U is to dequantise (Uria, Murray and Larochelle 2013). The mean is that of the training
    data, or 0 where they are not centred, the variance theirs, averaged over dimensions.
    """

    scale: int
    noisy: bool
    mean: Float[Tensor, " D"]
    variance: float

    @classmethod
    def fit(
        cls, values: Shaped[Tensor, "N D"], levels: int | None, *, dequantise: bool, centre: bool
    ) -> Self:
        """Choose the units by the training data.

        Mean and variance are exact: with dequantisation E[x] = (E[k] + 1/2)/L and
        Var[x] = (Var[k] + 1/12)/L².
        """
        noisy = dequantise and levels is not None
        scale = 1 if levels is None else levels if noisy else levels - 1
        mean, variance = mean_and_variance(values)
        mean = (mean + 0.5 * noisy) / scale if centre else torch.zeros_like(mean)
        variance = (variance + noisy / 12) / scale**2
        return cls(scale, noisy, mean.float(), float(variance.mean()))

    def __call__(
        self, values: Shaped[Tensor, "B D"], generator: torch.Generator
    ) -> Float[Tensor, "B D"]:
        """Convert raw values; the generator is left alone unless the map is noisy."""
        if self.noisy:
            x = uniform_noise(values.shape, generator).numpy()
            x += values.numpy()
        else:
            x = values.numpy().astype(np.float32)
        x /= np.float32(self.scale)
        x -= self.mean.numpy()
        return torch.from_numpy(x)

    @property
    def log_levels(self) -> float:
        """The log of L if the map is noisy, otherwise 0; see `TensorDataModule.log_levels`."""
        return math.log(self.scale) if self.noisy else 0.0
