"""Monte Carlo estimates of the bound and of the log-likelihood, in chunks of fixed memory."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from savi.evaluation.progress import Progress, silent
from savi.vae.distributions import Posterior
from savi.vae.elbo import _draws
from savi.vae.model import GaussianVAE


class ImportanceEstimate(NamedTuple):
    """What the importance weights w = p(x, z)/q(z|x) of S samples say, one value per example.

    Attributes:
        log_likelihood: log (1/S) Σ w, a lower bound on log p(x) in expectation, tight as S grows.
        effective_samples: (Σ w)²/Σ w², between 1 and S.
        bound: (1/S) Σ log w, the ELBO: never above ``log_likelihood``, and of variance 0 at the
            exact posterior, where the closed-form KL would leave the noise of the reconstruction.
    """

    log_likelihood: Float[Tensor, " B"]
    effective_samples: Float[Tensor, " B"]
    bound: Float[Tensor, " B"]


@torch.no_grad()
def importance_log_likelihood(
    model: GaussianVAE,
    q: Posterior,
    x: Float[Tensor, "B D"],
    samples: int,
    generator: torch.Generator,
    progress: Progress = silent,
) -> ImportanceEstimate:
    """Log (1/S) Σ_s p(x, z_s)/q(z_s|x), z_s ~ q (Burda et al. 2016, arXiv 1509.00519), in nats.

    Args:
        model: p(x, z).
        q: the proposal, with a density.
        x: the observations.
        samples: S; any number, in chunks of fixed memory.
        generator: the source of the noise.
        progress: called after every chunk.

    Raises:
        InputError: for less than one sample, and for a q without a density.
    """
    log_sum = torch.full_like(x[:, 0], -torch.inf)
    log_sum_squares, bound = log_sum.clone(), torch.zeros_like(log_sum)
    done = 0.0
    for part, z, share in _draws(q, x, samples, generator):
        log_weight = model.log_joint(x[part], z) - q[part].log_prob(z)
        log_sum[part] = torch.logaddexp(log_sum[part], log_weight.logsumexp(dim=0))
        log_sum_squares[part] = torch.logaddexp(
            log_sum_squares[part], (2.0 * log_weight).logsumexp(dim=0)
        )
        bound[part] += log_weight.mean(dim=0) * share
        done += share * (part.stop - part.start) / len(x)
        progress(min(done, 1.0))
    effective_samples = (2.0 * log_sum - log_sum_squares).exp()
    return ImportanceEstimate(log_sum - math.log(samples), effective_samples, bound)
