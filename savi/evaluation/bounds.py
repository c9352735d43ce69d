"""Lower bounds on log p(x) by samples of q: importance-weighted, and the ELBO made sharp."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from savi.evaluation.pieces import Progress, silent
from savi.types import Observations, PerExample, PerSample, Samples
from savi.vae.distributions import Gaussian, Posterior, antithetic_noise
from savi.vae.model import VAE
from savi.vae.monte_carlo import chunk_sizes, draws, expected_bound

#: With fewer, the slope of the control variate would add more noise than it takes away.
LEAST_SAMPLES = 64


class ImportanceEstimate(NamedTuple):
    """What the importance weights w = p(x, z)/q(z|x) of S samples say, one value per example.

    Attributes:
        log_likelihood: log (1/S) Σ w, a lower bound on log p(x) in expectation, tight as S grows.
        effective_samples: (Σ w)²/Σ w², between 1 and S.
        bound: (1/S) Σ log w, the ELBO: never above ``log_likelihood``, and of variance 0 at the
            exact posterior, where the closed-form KL would leave the noise of the reconstruction.
    """

    log_likelihood: PerExample
    effective_samples: PerExample
    bound: PerExample


@torch.no_grad()
def importance_log_likelihood(
    model: VAE,
    q: Posterior,
    x: Observations,
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
    for part, z, share in draws(q, x, samples, generator, model.likelihood.num_outputs):
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


@torch.no_grad()
def sharp_bound(
    model: VAE, q: Posterior, x: Observations, samples: int, generator: torch.Generator
) -> PerExample:
    """L[q] = E_q log p(x|z) − KL(q‖p) in nats, exact for an affine decoder.

    Around the mean m of q, log p(x|z) is −v(z) with v = ½ δᵀGδ, δ = z − m and G = JᵀΓ⁻¹J, plus a
    linear term, which antithetic pairs average to 0 exactly, plus a rest that vanishes for an
    affine decoder. As E_q v = ½ tr(GΣ) is known, v is a control variate:

        L̂ = (1/S) Σ_s [log p(x|z_s) − c v(z_s)] + ½ c tr(GΣ) − KL(q‖p),

    with c for each example the least-squares slope over the pairs: −1 for an affine decoder, and
    whatever leaves the least noise for any other. Either half of the samples takes its c from the
    other half, so that L̂ is unbiased. (Noise with exact second moments would be exact for an affine
    decoder too, but it is not Gaussian, and biased for others.) S is made even, and 64 at least: a
    slope needs more than a few pairs.

    With another prior than N(0, I), log p(x|z) has r(z) = log p(z) − log N(z; 0, I) added, G its
    curvature, and the KL term is that from N(0, I). A q that is no Gaussian has the plain average.
    """
    if not isinstance(q, Gaussian):
        return expected_bound(model, q, x, samples, generator).elbo
    model = model.given(x)
    gram, d = model.gram(q.mean), q.mean.shape[-1]
    basis = torch.eye(d, dtype=q.mean.dtype, device=q.mean.device)
    if not model.prior.standard:
        gram = gram + model.prior.precision(q.mean) - basis

    def quadratic(z: Samples) -> PerSample:
        delta = z - q.mean
        return 0.5 * torch.einsum("sbi,bij,sbj->sb", delta, gram, delta)

    values, controls = [], []
    samples = max(samples + samples % 2, LEAST_SAMPLES)
    for size in chunk_sizes(samples, len(x) * model.likelihood.num_outputs):
        z = q.rsample(antithetic_noise(size, q.mean, generator))
        log_likelihood, _ = model.likelihood(x, model.decode(z))
        if not model.prior.standard:
            log_likelihood = log_likelihood + model.prior.log_ratio(z)
        values.append(_pair_means(log_likelihood))
        controls.append(_pair_means(quadratic(z)))
    # The columns δ_i of a square root of Σ: Σ_i v(m + δ_i) = ½ tr(GΣ).
    expected = quadratic(q.rsample(basis[:, None, :].expand(-1, len(x), -1))).sum(dim=0)
    reconstruction = _controlled_mean(torch.cat(values), torch.cat(controls), expected)
    return reconstruction - q.kl_per_dimension().sum(dim=-1)


def _pair_means(values: PerSample) -> Float[Tensor, "S/2 B"]:
    """The means of the antithetic pairs, whose halves come one after the other."""
    return values.unflatten(0, (2, -1)).mean(dim=0)


def _controlled_mean(values: PerSample, controls: PerSample, expected: PerExample) -> PerExample:
    """The mean of values − c (controls − expected), with the c of either half from the other."""
    halves = list(zip(values.tensor_split(2), controls.tensor_split(2), strict=True))
    slopes = [_slope(*half) for half in reversed(halves)]
    corrected = [
        value + slope * (expected - control)
        for (value, control), slope in zip(halves, slopes, strict=True)
    ]
    return torch.cat(corrected).mean(dim=0)


def _slope(values: PerSample, controls: PerSample) -> PerExample:
    """The least-squares slope of values on controls; −1 where one pair or none cannot tell."""
    if len(values) < 2:
        return torch.full_like(values.sum(dim=0), -1.0)
    deviation = controls - controls.mean(dim=0)
    spread = deviation.square().sum(dim=0)
    covariance = ((values - values.mean(dim=0)) * deviation).sum(dim=0)
    return torch.where(spread > 0, covariance / spread, -1.0)
