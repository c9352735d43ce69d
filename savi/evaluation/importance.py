"""Monte Carlo estimates of the bound and of the log-likelihood, in chunks of fixed memory."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from savi.inner.noise import antithetic_noise
from savi.vae.distributions import Posterior
from savi.vae.elbo import Bound, elbo
from savi.vae.model import GaussianVAE

#: Entries of a decoded chunk [S, B, D]: 64 MiB in float32.
CHUNK_ENTRIES = 2**24


def chunk_sizes(samples: int, entries_per_sample: int) -> Iterator[int]:
    """Even numbers of samples that sum to ``samples`` (the last may be odd) and fit a chunk."""
    largest = max(2, CHUNK_ENTRIES // entries_per_sample // 2 * 2)
    for done in range(0, samples, largest):
        yield min(largest, samples - done)


@torch.no_grad()
def expected_bound(
    model: GaussianVAE,
    q: Posterior,
    x: Float[Tensor, "B D"],
    samples: int,
    generator: torch.Generator,
) -> Bound:
    """The ELBO with any number of antithetic samples."""
    reconstruction = torch.zeros_like(x[:, 0])
    squared_error = torch.zeros_like(x[:, 0])
    for size in chunk_sizes(samples, x.numel()):
        part = elbo(model, q, x, antithetic_noise(size, q.mean, generator))
        reconstruction += part.reconstruction * (size / samples)
        squared_error += part.squared_error * (size / samples)
    return Bound(reconstruction, q.kl_per_dimension(), squared_error)


@torch.no_grad()
def importance_log_likelihood(
    model: GaussianVAE,
    q: Posterior,
    x: Float[Tensor, "B D"],
    samples: int,
    generator: torch.Generator,
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """log (1/S) Σ_s p(x, z_s)/q(z_s|x), z_s ~ q (Burda et al. 2016, arXiv 1509.00519).

    A lower bound on log p(x) in expectation, tight as S grows.

    Returns:
        The estimate in nats, shape [B], and the effective sample size (Σw)²/Σw², shape [B].
    """
    log_sum = torch.full_like(x[:, 0], -torch.inf)
    log_sum_squares = log_sum.clone()
    prior_constant = -0.5 * model.latent_dim * math.log(2.0 * math.pi)
    for size in chunk_sizes(samples, x.numel()):
        z = q.rsample(antithetic_noise(size, q.mean, generator))
        log_likelihood, _ = model.likelihood(x, model.decode(z))
        log_prior = prior_constant - 0.5 * z.square().sum(dim=-1)
        log_weight = log_likelihood + log_prior - q.log_prob(z)
        log_sum = torch.logaddexp(log_sum, log_weight.logsumexp(dim=0))
        log_sum_squares = torch.logaddexp(log_sum_squares, (2.0 * log_weight).logsumexp(dim=0))
    return log_sum - math.log(samples), (2.0 * log_sum - log_sum_squares).exp()
