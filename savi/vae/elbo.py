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
        kl_per_dimension: of q, from N(0, I) for most, shape [B, d].
        squared_error: (1/S) Σ_s ‖x − μ(z_s)‖², shape [B].
        deviation: the same of what else the likelihood learns from; None for most.
        log_ratio: (1/S) Σ_s log p(z_s)/N(z_s; 0, I), or what :func:`log_ratio` says; None where the
            KL from the prior is in closed form.
        importance_weighted: L_S of :mod:`savi.vae.importance_bound`, where that is maximised.
    """

    reconstruction: PerExample
    kl_per_dimension: Codes
    squared_error: PerExample
    deviation: PerExample | None = None
    log_ratio: PerExample | None = None
    importance_weighted: PerExample | None = None

    @property
    def kl(self) -> PerExample:
        """KL(q ‖ p)."""
        kl = self.kl_per_dimension.sum(dim=-1)
        return kl if self.log_ratio is None else kl - self.log_ratio

    @property
    def elbo(self) -> PerExample:
        """L."""
        return self.reconstruction - self.kl

    def objective(self, beta: KLWeight = 1.0, free_bits: float = 0.0) -> Scalar:
        """What training maximises: the mean of E_q log p(x|z) − β Σ_i max(KL_i, free bits).

        The free bits (nats per dimension) apply to each dimension's mean KL over the batch
        (Kingma et al. 2016, arXiv 1606.04934), where the prior is N(0, I). The importance-weighted
        bound, where there is one, has no β.
        """
        if self.importance_weighted is not None:
            return self.importance_weighted.mean()
        if free_bits == 0.0:
            return (self.reconstruction - beta * self.kl).mean()
        kl = self.kl_per_dimension.mean(dim=0).clamp_min(free_bits).sum()
        return self.reconstruction.mean() - beta * kl


def elbo(model: VAE, q: Posterior, x: Observations, noise: Samples) -> Bound:
    """The bound with S reparameterised samples, one for each slice of ``noise``.

    In training, an ``optimal`` γ is the batch's own (see :class:`OptimalVariance`).
    """
    z = q.rsample(noise)
    return elbo_of(model, q, x, z, model.given(x).decode(z))


def elbo_of(
    model: VAE, q: Posterior, x: Observations, z: Samples, decoded: Float[Tensor, "S B D"]
) -> Bound:
    """The same with the samples drawn and decoded."""
    log_likelihood, squared_error = model.likelihood(x, decoded, outer=True)
    deviation = model.likelihood.deviation(x, decoded)
    return Bound(
        log_likelihood.mean(dim=0),
        q.kl_per_dimension(),
        squared_error.mean(dim=0),
        None if deviation is None else deviation.mean(dim=0),
        log_ratio(model, q, z),
    )


def log_ratio(model: VAE, q: Posterior, z: Samples) -> PerExample | None:
    """What KL(q ‖ p) lacks beside the KL in closed form, by samples z of q; None if nothing.

    That is the mean of log p(z) − log N(z; 0, I), or whatever the closed form is the KL from.
    """
    if model.prior.standard and q.closed_kl:
        return None
    return (model.prior.log_prob(z) - q.log_reference(z)).mean(dim=0)


def kl_to_prior(model: VAE, q: Posterior, z: Samples) -> PerExample:
    """KL(q ‖ p), an estimate by samples z of q where it is in no closed form."""
    kl, lacking = q.kl_per_dimension().sum(dim=-1), log_ratio(model, q, z)
    return kl if lacking is None else kl - lacking
