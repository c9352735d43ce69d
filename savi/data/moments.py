"""Moments of a data set, in double precision and in closed form."""

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
