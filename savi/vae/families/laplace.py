"""A Gaussian around the most probable code, with the decoder's own curvature."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from savi.errors import unknown_option
from savi.inner.precision import short_products
from savi.types import Rows
from savi.vae.distributions import FullGaussian
from savi.vae.families.base import POSTERIORS
from savi.vae.families.point_mass import MapFamily
from savi.vae.model import VAE, KLWeight

#: The choices of ``posterior.covariance_gradient``.
COVARIANCE_GRADIENT = ("exact", "stop")


@POSTERIORS.register("laplace")
class LaplaceFamily(MapFamily):
    """q = N(λ, (I + JᵀJ/γ)⁻¹) with J the decoder's Jacobian at λ (Park et al. 2019).

    At the MAP solution of an affine decoder this is the exact posterior. With a KL weight β the
    covariance is (I + JᵀJ/(βγ))⁻¹, the optimum of the weighted bound.

    Args:
        latent_dim: d.
        covariance_gradient: ``exact``, or ``stop``: the covariance is held constant. At the best
            covariance the bound's derivative in it is 0, so that little is lost where this one is
            close to the best; and it costs most of what a Laplace posterior costs.
    """

    name = "laplace"

    def __init__(self, latent_dim: int, covariance_gradient: str = "exact") -> None:
        super().__init__(latent_dim)
        if covariance_gradient not in COVARIANCE_GRADIENT:
            raise unknown_option("covariance_gradient", covariance_gradient, COVARIANCE_GRADIENT)
        self.covariance_gradient = covariance_gradient

    def distribution(self, lam: Rows, model: VAE, beta: KLWeight = 1.0) -> FullGaussian:
        """The Laplace approximation at λ, whether λ is a mode or not."""
        training = torch.is_grad_enabled()
        exact = training and self.covariance_gradient == "exact"
        # A constant is as good if it is rounded: the bound is that of the Gaussian that it makes.
        with torch.set_grad_enabled(exact), short_products(training and not exact):
            precision = model.precision(lam, beta)
        return FullGaussian(lam, _factor_of_inverse(precision))


def _factor_of_inverse(precision: Float[Tensor, "B d d"]) -> Float[Tensor, "B d d"]:
    """The lower triangle L with L Lᵀ = Λ⁻¹; NaN where Λ has no factors, there alone.

    One factorisation and a triangular solve: the inverse itself is never factorised.
    """
    flipped, info = torch.linalg.cholesky_ex(precision.flip((-2, -1)))
    flipped = torch.where((info == 0)[:, None, None], flipped, torch.nan)
    upper = flipped.flip((-2, -1)).mT
    identity = torch.eye(precision.shape[-1], dtype=precision.dtype, device=precision.device)
    return torch.linalg.solve_triangular(upper, identity, upper=False)
