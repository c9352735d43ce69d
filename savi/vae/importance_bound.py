"""The importance-weighted bound (IWAE), and its doubly reparameterised gradient (DReG)."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

from savi.types import Observations, Samples
from savi.vae.distributions import Posterior
from savi.vae.elbo import Bound, log_ratio
from savi.vae.model import VAE


def importance_weighted_bound(
    model: VAE,
    q: Posterior,
    x: Observations,
    z: Samples,
    decoded: Float[Tensor, "S B D"],
    *,
    doubly: bool = False,
) -> Bound:
    """L_S = log (1/S) Σ_s w_s with w_s = p(x, z_s)/q(z_s|x), beside the terms of the ELBO.

    The gradient is that of L_S (Burda et al. 2016, arXiv 1509.00519), or another one with the same
    expectation whose part in q has a smaller variance (``doubly``; Tucker et al. 2019, arXiv
    1810.04152): with shares v_s = w_s/Σ w and the parameters of q held constant in log q,

        Σ_s v_s ∇_θ log w_s  +  Σ_s v_s² (∂z_s/∂λ)ᵀ ∇_z log w_s.

    It asks for independent samples. γ and other closed forms, which are those of the ELBO, are
    held at their running means, and learn from squared errors weighted by the shares: where they
    stand still, L_S is stationary in them.

    Args:
        model: p(x, z).
        q: the proposal, with a density.
        x: the observations.
        z: S samples of q.
        decoded: the samples decoded.
        doubly: the gradient.
    """
    log_likelihood, squared_error = model.likelihood(x, decoded)
    deviation = model.likelihood.deviation(x, decoded)
    proposal = q.detach() if doubly else q
    log_weight = log_likelihood + model.prior.log_prob(z) - proposal.log_prob(z)
    shares = log_weight.detach().softmax(dim=0)
    bound = log_weight.logsumexp(dim=0) - math.log(len(z))
    if doubly:
        mean = (shares * log_weight).sum(dim=0)
        bound = mean + (bound - mean).detach()
        if z.requires_grad:
            z.register_hook(lambda slope: shares.unsqueeze(-1) * slope)
    return Bound(
        log_likelihood.mean(dim=0),
        q.kl_per_dimension(),
        (shares * squared_error).sum(dim=0),
        None if deviation is None else (shares * deviation).sum(dim=0),
        log_ratio(model, q, z),
        bound,
    )
