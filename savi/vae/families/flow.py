"""A diagonal Gaussian pushed through a normalising flow."""

from __future__ import annotations

from torch import nn

from savi.errors import InputError, require_at_least
from savi.types import PerExample, Rows
from savi.vae.families.base import POSTERIORS, PosteriorFamily
from savi.vae.families.diagonal_gaussian import DiagonalGaussianFamily
from savi.vae.flow import CouplingFlow, FlowPosterior
from savi.vae.model import VAE, KLWeight


@POSTERIORS.register("flow")
class FlowFamily(PosteriorFamily, nn.Module):
    """z = f(u), u a diagonal Gaussian with λ = (mean, log variance), f a normalising flow.

    The weights of f are the same for all examples, and are trained with the encoder. Derivatives of
    the ELBO are those of autograd. The Fisher matrix of q_λ is that of u, which f leaves as it is.

    Args:
        latent_dim: d, 2 or more.
        layers: of affine couplings; at first they leave u as it is.
        hidden: the width of their perceptrons.
    """

    name = "flow"

    def __init__(self, latent_dim: int, layers: int = 4, hidden: int = 32) -> None:
        nn.Module.__init__(self)
        if latent_dim < 2:
            raise InputError(
                f"posterior 'flow' with model.latent_dim {latent_dim}, of which there are no two "
                "halves: set model.latent_dim to 2 or more, or posterior=diagonal_gaussian"
            )
        require_at_least("layers", layers, 1)
        require_at_least("hidden", hidden, 1)
        self.latent_dim = latent_dim
        self.flow = CouplingFlow(latent_dim, layers, hidden)
        self._base = DiagonalGaussianFamily(latent_dim)

    @property
    def num_params(self) -> int:
        """2d."""
        return 2 * self.latent_dim

    def distribution(self, lam: Rows, model: VAE, beta: KLWeight = 1.0) -> FlowPosterior:
        """The law of f(u)."""
        base_mean, log_variance = lam.chunk(2, dim=-1)
        return FlowPosterior(base_mean, log_variance, self.flow)

    def natural_gradient(self, lam: Rows, gradient: Rows) -> Rows:
        """That of a diagonal Gaussian."""
        return self._base.natural_gradient(lam, gradient)

    def natural_step(self, lam: Rows, gradient: Rows, length: PerExample) -> Rows:
        """That of a diagonal Gaussian."""
        return self._base.natural_step(lam, gradient, length)
