"""The evidence lower bound."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from savi.types import Codes, Observations, PerExample, Samples, Scalar
from savi.vae.distributions import Posterior
from savi.vae.model import VAE, KLWeight


@dataclass(frozen=True)
class Bound:
    """The terms of L = E_q log p(x|z) − KL(q ‖ p), in nats, one value per example.

    Attributes:
        reconstruction: (1/S) Σ_s log p(x|z_s), shape [B].
        kl_per_dimension: shape [B, d].
        squared_error: (1/S) Σ_s ‖x − μ(z_s)‖², shape [B].
        deviation: the same of what else the likelihood learns from; None for most.
    """

    reconstruction: PerExample
    kl_per_dimension: Codes
    squared_error: PerExample
    deviation: PerExample | None = None

    @property
    def kl(self) -> PerExample:
        """KL(q ‖ p)."""
        return self.kl_per_dimension.sum(dim=-1)

    @property
    def elbo(self) -> PerExample:
        """L."""
        return self.reconstruction - self.kl

    def objective(self, beta: KLWeight = 1.0, free_bits: float = 0.0) -> Scalar:
        """What training maximises: the mean of E_q log p(x|z) − β Σ_i max(KL_i, free bits).

        The free bits (nats per dimension) apply to each dimension's mean KL over the batch
        (Kingma et al. 2016, arXiv 1606.04934).
        """
        if free_bits == 0.0:
            return (self.reconstruction - beta * self.kl).mean()
        kl = self.kl_per_dimension.mean(dim=0).clamp_min(free_bits).sum()
        return self.reconstruction.mean() - beta * kl


def elbo(model: VAE, q: Posterior, x: Observations, noise: Samples) -> Bound:
    """The bound with S reparameterised samples, one for each slice of ``noise``.

    In training, an ``optimal`` γ is the batch's own (see :class:`OptimalVariance`).
    """
    return elbo_of(model, q, x, model.given(x).decode(q.rsample(noise)))


def elbo_of(model: VAE, q: Posterior, x: Observations, decoded: Float[Tensor, "S B D"]) -> Bound:
    """The same with the samples decoded."""
    log_likelihood, squared_error = model.likelihood(x, decoded, outer=True)
    deviation = model.likelihood.deviation(x, decoded)
    return Bound(
        log_likelihood.mean(dim=0),
        q.kl_per_dimension(),
        squared_error.mean(dim=0),
        None if deviation is None else deviation.mean(dim=0),
    )
