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
from jaxtyping import Float, Float64, Shaped
from torch import Tensor

# Rows that are converted to double precision at a time: a whole data set would not fit.
_ROWS = 4096

#: Of so many different values at most it is said that they are few.
FEW_VALUES = 32

# A spread below this share of the mean is rounding.
_ROUNDING = 1e-12


def mean_and_variance(
    values: Shaped[Tensor, "N D"],
) -> tuple[Float[Tensor, " D"], Float[Tensor, " D"]]:
    """Each dimension's mean and its variance (1/N) Σ (v - mean)², as float64."""
    mean = sum(rows.double().sum(0) for rows in values.split(_ROWS)) / len(values)
    squares = sum((rows.double() - mean).square_().sum(0) for rows in values.split(_ROWS))
    return mean, squares / len(values)


def distinct(values: Shaped[Tensor, "N D"]) -> Shaped[Tensor, " V"]:
    """The different values, ascending; not all of them if they are more than `FEW_VALUES`."""
    found = values.new_empty(0)
    for rows in values.split(_ROWS):
        found = torch.cat([found, rows.unique()]).unique()
        if len(found) > FEW_VALUES:
            break
    return found


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
    """The map x = ((k + U)/divisor - centre)/scale from raw values k to the model's units x.

    ===================  =============  =======
    data                 U              divisor
    ===================  =============  =======
    L levels, noisy      uniform [0,1)  L
    L levels, not noisy  0              L - 1
    continuous           0              1
    ===================  =============  =======

    Binary x are draws instead, 1 with probability k/(L − 1) (k itself of continuous data in [0, 1])
    and else 0, neither centred nor scaled.

    To draw U is to dequantise (Uria, Murray and Larochelle 2013). What comes out of the division
    are the data's units. The centre is the mean of the training data in them, or 0 where they are
    not centred. The scale, of one number or of one for each dimension, is the root of their mean
    square about the centre, or 1. The variance is theirs in the model's units, averaged over
    dimensions.

    Attributes:
        dtype: the precision of x.
    """

    divisor: int
    noisy: bool
    centre: Float64[Tensor, " D"]
    scale: Float64[Tensor, " #D"]
    variance: float
    dtype: torch.dtype = torch.float32
    binary: bool = False

    @classmethod
    def fit(
        cls,
        values: Shaped[Tensor, "N D"],
        levels: int | None,
        *,
        dequantise: bool,
        centre: bool,
        scale: str = "none",
        binary: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> Self:
        """Choose the units by the training data; ``scale`` is one of `savi.config.data.SCALES`.

        Mean and variance are exact: with dequantisation E[x] = (E[k] + 1/2)/L and
        Var[x] = (Var[k] + 1/12)/L²; of binary x with E[x] = p, Var[x] = p(1 − p).
        """
        noisy = dequantise and levels is not None and not binary
        divisor = 1 if levels is None else levels if noisy else levels - 1
        mean, variance = mean_and_variance(values)
        mean = (mean + 0.5 * noisy) / divisor
        variance = (variance + noisy / 12) / divisor**2
        if binary:
            variance = mean * (1.0 - mean)
        about = torch.zeros_like(mean) if not centre else mean
        square = variance + (mean - about).square()
        if scale == "none":
            chosen = torch.ones_like(mean[:1])
        else:
            chosen = (square.mean(0, keepdim=True) if scale == "global" else square).sqrt()
            # A constant has no spread of its own, whatever rounding has left of it.
            chosen[chosen <= _ROUNDING * (mean.norm() if scale == "global" else mean.abs())] = 1.0
        return cls(
            divisor, noisy, about, chosen, float((variance / chosen**2).mean()), dtype, binary
        )

    @property
    def mean(self) -> Float[Tensor, " D"]:
        """The centre, in the precision of x."""
        return self.centre.to(self.dtype)

    def __call__(
        self, values: Shaped[Tensor, "B D"], generator: torch.Generator
    ) -> Float[Tensor, "B D"]:
        """Convert raw values; the generator is left alone unless the map is :attr:`random`."""
        array = values.numpy()
        # A large mean is subtracted in the precision in which the data came.
        precise = torch.float64 in (values.dtype, self.dtype)
        if self.noisy:
            x = uniform_noise(values.shape, generator).numpy()
            x = x.astype(np.float64) if precise else x
            x += array
        else:
            x = array.astype(np.float64 if precise else np.float32)
        x /= x.dtype.type(self.divisor)
        if self.binary:
            drawn = uniform_noise(values.shape, generator).numpy() < x
            return torch.from_numpy(drawn).to(self.dtype)
        x -= self.centre.numpy().astype(x.dtype)
        if self.scaled:
            x /= self.scale.numpy().astype(x.dtype)
        return torch.from_numpy(x).to(self.dtype)

    def restored(self, x: Float[Tensor, "*S D"]) -> Float64[Tensor, "*S D"]:
        """From the model's units back to the data's: x · scale + centre."""
        return x.double() * self.scale.to(x.device) + self.centre.to(x.device)

    def seen(self, data: Float[Tensor, "*S D"]) -> Float[Tensor, "*S D"]:
        """From the data's units to the model's: the inverse of `restored`."""
        return ((data.double() - self.centre) / self.scale).to(self.dtype)

    @property
    def random(self) -> bool:
        """Whether the map draws something."""
        return self.noisy or self.binary

    @property
    def scaled(self) -> bool:
        """Whether the scale is another than 1."""
        return bool((self.scale != 1).any())

    @property
    def log_scale(self) -> float:
        """Σ_i log scale_i over all D dimensions.

        A density of x exceeds the density of the same data in their own units by so many nats.
        """
        return float(self.scale.log().mean()) * len(self.centre)

    @property
    def log_levels(self) -> float:
        """See `TensorDataModule.log_levels`."""
        of_levels = math.log(self.divisor) if self.noisy else 0.0
        return of_levels + self.log_scale / len(self.centre)
