"""The variational mixture of posteriors (Tomczak and Welling 2018)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from savi.vae.distributions import Gaussian
from savi.vae.priors.base import PRIORS
from savi.vae.priors.mixture import GaussianMixture

#: The standard deviation with which pseudo-inputs start around 0, the mean of centred data.
START = 0.1


@PRIORS.register("vamp")
class VampPrior(GaussianMixture):
    """(1/C) Σ_c q(z|u_c), the posteriors of C learned pseudo-inputs (Tomczak and Welling 2018).

    These posteriors are what the encoder says, without a refinement: the encoder learns from the
    prior as well, and to evaluate p(z) costs a pass of the encoder over the pseudo-inputs.

    Args:
        latent_dim: d.
        data_dim: D.
        components: C.
    """

    def __init__(self, latent_dim: int, data_dim: int, components: int = 10) -> None:
        super().__init__(latent_dim, data_dim, components)
        self.pseudo_inputs = nn.Parameter(START * torch.randn(components, data_dim))
        #: From observations to q_λ0; see :func:`savi.inference.priors.connect`. The weights in it
        #: are φ, and not among the parameters of the prior.
        self.encode: Callable[[Tensor], Gaussian] | None = None

    def components(self) -> Gaussian:
        """q(z|u_c)."""
        assert self.encode is not None
        return self.encode(self.pseudo_inputs)

    def log_weights(self) -> Float[Tensor, " C"]:
        """−log C."""
        count = len(self.pseudo_inputs)
        return self.pseudo_inputs.new_full((count,), -math.log(count))
