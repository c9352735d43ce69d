"""Mixtures of Gaussians: one with parameters of its own, and what all of them have in common."""

from __future__ import annotations

from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from savi.errors import require_at_least
from savi.vae.distributions import DiagonalGaussian, Gaussian
from savi.vae.priors.base import PRIORS, Matrices, Points, Prior, Values


class GaussianMixture(Prior):
    """p(z) = Σ_c w_c N(z; m_c, Σ_c).

    Args:
        latent_dim: d.
        data_dim: D.
        components: C.
    """

    def __init__(self, latent_dim: int, data_dim: int, components: int) -> None:
        super().__init__(latent_dim, data_dim)
        require_at_least("components", components, 1)

    @abstractmethod
    def components(self) -> Gaussian:
        """The C Gaussians, as one batch of them."""

    @abstractmethod
    def log_weights(self) -> Float[Tensor, " C"]:
        """The values of log w_c."""

    def log_prob(self, z: Points) -> Values:
        """The values of log p(z) in nats."""
        return self._joint(self.components(), z).logsumexp(dim=-1)

    def _joint(self, components: Gaussian, z: Points) -> Float[Tensor, "*batch C"]:
        """The values of log w_c N(z; m_c, Σ_c)."""
        count, d = components.mean.shape
        each = z.reshape(-1, 1, d).expand(-1, count, -1)
        return (components.log_prob(each) + self.log_weights()).reshape(*z.shape[:-1], count)

    def precision(self, z: Points) -> Matrices:
        """Σ_c r_c(z) Σ_c⁻¹, with r_c(z) the probability that z is of component c.

        This is −∇² log p(z) without the covariance of the components' scores, which is what makes
        that indefinite between them; where one component has all of r_c it is the same.
        """
        components = self.components()
        shares = self._joint(components, z).softmax(dim=-1)
        return torch.einsum("...c,cij->...ij", shares, components.precision)

    @torch.no_grad()
    def sample(
        self, n: int, generator: torch.Generator | None = None, dtype: torch.dtype | None = None
    ) -> Float[Tensor, "n d"]:
        """A component for each, and a code of it."""
        device = torch.device("cpu") if generator is None else generator.device
        weights = self.log_weights().exp().to(device)
        which = torch.multinomial(weights, n, replacement=True, generator=generator)
        size = 1, n, self.latent_dim
        noise = torch.randn(*size, generator=generator, dtype=dtype, device=device)
        components = self.components()
        chosen = components[which.to(components.mean.device)]
        return chosen.rsample(noise.to(components.mean))[0].to(device)


@PRIORS.register("mixture")
class MixturePrior(GaussianMixture):
    """A mixture of C diagonal Gaussians with learned weights, means and scales.

    Args:
        latent_dim: d.
        data_dim: D.
        components: C.
    """

    def __init__(self, latent_dim: int, data_dim: int, components: int = 10) -> None:
        super().__init__(latent_dim, data_dim, components)
        self.logits = nn.Parameter(torch.zeros(components))
        # Apart from each other, or they would stay alike.
        self.means = nn.Parameter(torch.randn(components, latent_dim))
        self.log_variances = nn.Parameter(torch.zeros(components, latent_dim))

    def components(self) -> DiagonalGaussian:
        """N(m_c, diag s_c²)."""
        return DiagonalGaussian(self.means, self.log_variances)

    def log_weights(self) -> Float[Tensor, " C"]:
        """The values of log w_c."""
        return self.logits.log_softmax(dim=0)
