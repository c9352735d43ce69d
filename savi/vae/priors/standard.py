"""N(0, I)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from savi.vae.distributions import standard_log_prob
from savi.vae.priors.base import PRIORS, Matrices, Points, Prior, Values


@PRIORS.register("standard")
class StandardPrior(Prior):
    """N(0, I), whose KL terms are in closed form."""

    standard = True

    def log_prob(self, z: Points) -> Values:
        """The values of log N(z; 0, I)."""
        return standard_log_prob(z)

    def sample(
        self, n: int, generator: torch.Generator | None = None, dtype: torch.dtype | None = None
    ) -> Float[Tensor, "n d"]:
        """Standard normal codes."""
        device = None if generator is None else generator.device
        size = n, self.latent_dim
        return torch.randn(*size, generator=generator, dtype=dtype, device=device)

    def precision(self, z: Points) -> Matrices:
        """I, the same for all codes."""
        return torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
