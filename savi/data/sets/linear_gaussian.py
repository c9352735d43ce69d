"""Synthetic data for which everything about a linear VAE is known in closed form."""

from collections.abc import Sequence

import torch
from torch import Tensor

from savi.data.randomness import generator
from savi.data.raw import Examples, RawData
from savi.data.registry import DATASETS
from savi.errors import InputError


@DATASETS.register("linear_gaussian")
def linear_gaussian(
    *,
    n: int = 10_000,
    dim: int = 20,
    latent_dim: int = 4,
    gamma: float = 0.1,
    eigenvalues: Sequence[float] | None = None,
    seed: int = 0,
) -> RawData:
    """Draw x = Wz + b + √γ ε with z ~ N(0, I_d) and ε ~ N(0, I_D).

    The columns of W are orthogonal, so that x ~ N(b, WWᵀ + γI), whose covariance has the
    eigenvalues ``eigenvalues`` + γ, d of them, and otherwise γ. ``truth`` holds W [D, d], b [D]
    and gamma [] in float64. Centring moves x and b alike by the training mean. The eigenvalues
    of the covariance of the sample itself are `savi.data.covariance_eigenvalues`.

    Args:
        n: Examples in all splits together.
        dim: The number D of dimensions.
        latent_dim: The number d of latent dimensions.
        gamma: The variance γ of the noise.
        eigenvalues: The d squared column norms of W; by default 4, 2, 1, 1/2, ...
        seed: The seed of the parameters and the examples, apart from that of their split.

    Raises:
        InputError: for a size or variance that is not above 0, more latent dimensions than
            dimensions, or eigenvalues that are not ``latent_dim`` numbers from 0 up.
    """
    _check(n, dim, latent_dim, gamma, seed)
    norms = [4.0 / 2**i for i in range(latent_dim)] if eigenvalues is None else list(eigenvalues)
    if len(norms) != latent_dim or not all(norm >= 0 for norm in norms):
        raise InputError(
            f"data.options.eigenvalues is {norms}: set latent_dim={latent_dim} numbers from 0 up"
        )
    source = generator("linear Gaussian", seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=source, dtype=torch.float64)

    directions = torch.linalg.qr(normal(dim, latent_dim)).Q
    weight = directions * torch.tensor(norms, dtype=torch.float64).sqrt()
    bias = normal(dim)
    x = normal(n, latent_dim) @ weight.T + bias + gamma**0.5 * normal(n, dim)
    truth = {"W": weight, "b": bias, "gamma": torch.tensor(gamma, dtype=torch.float64)}
    return RawData(train=Examples(x.float()), truth=truth)


def _check(n: int, dim: int, latent_dim: int, gamma: float, seed: int) -> None:
    least = {"n": (n, 1), "dim": (dim, 1), "latent_dim": (latent_dim, 1), "seed": (seed, 0)}
    for option, (value, minimum) in least.items():
        if not isinstance(value, int) or value < minimum:
            raise InputError(
                f"data.options.{option} is {value}: set a whole number, {minimum} or more"
            )
    if not gamma > 0:
        raise InputError(f"data.options.gamma is {gamma}: set a variance above 0")
    if latent_dim > dim:
        raise InputError(
            f"data.options.latent_dim is {latent_dim} and data.options.dim is {dim}: "
            "set no more latent dimensions than dimensions"
        )
