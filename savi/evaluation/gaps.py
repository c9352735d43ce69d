"""Where the bound loses nats: the family, the inference, and the new data (Cremer et al. 2018)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from savi.evaluation.bounds import ImportanceEstimate, importance_log_likelihood, sharp_bound
from savi.evaluation.optimum import LocalOptimum, local_optimum
from savi.evaluation.proposals import with_density
from savi.types import Observations, PerExample
from savi.vae.families import LaplaceFamily
from savi.vae.model import VAE

if TYPE_CHECKING:
    from savi.inference.semi_amortized import SemiAmortizedInference

#: Standard errors by which a mean must be larger to be believed.
SIGNIFICANT = 4.0


@dataclass(frozen=True)
class Gaps:
    """Bounds of a few examples, in nats, shape [B].

        log p(x) − L[q]  =  (log p(x) − L[q*])  +  (L[q*] − L[q])
        inference gap    =   approximation gap   +  amortisation gap

    Attributes:
        inferred: L at the λ that the run's inference returns.
        optimal: L at λ*, the local optimum within the family.
        log_likelihood: an importance-weighted estimate of log p(x).
        optimum: λ* and its certificate.
    """

    inferred: PerExample
    optimal: PerExample
    log_likelihood: PerExample
    optimum: LocalOptimum

    @property
    def amortization(self) -> float:
        """L[q*] − L[q]: what better inference would gain."""
        return float((self.optimal - self.inferred).mean())

    @property
    def approximation(self) -> float:
        """Log p(x) − L[q*]: what a richer family would gain."""
        return float((self.log_likelihood - self.optimal).mean())

    @property
    def inference(self) -> float:
        """Log p(x) − L[q], the sum of the two."""
        return float((self.log_likelihood - self.inferred).mean())

    def metrics(self) -> dict[str, float]:
        """The gaps and the certificate of the optimum they are measured from, as ``gap/...``."""
        gaps = {
            "amortization": self.amortization,
            "approximation": self.approximation,
            "inference": self.inference,
        }
        return {f"gap/{name}": value for name, value in (gaps | self.optimum.metrics()).items()}


def generalization(train: Gaps, held_out: Gaps) -> float:
    """The mean of L[q*] on training examples minus that on held-out ones, in nats.

    With the best q of each example, the inference network has no part in it: it is what the
    generative model has overfitted.
    """
    return float(train.optimal.mean() - held_out.optimal.mean())


@torch.no_grad()
def measure_gaps(
    model: VAE,
    inference: SemiAmortizedInference,
    x: Observations,
    *,
    steps: int,
    importance_samples: int,
    generator: torch.Generator,
) -> Gaps:
    """Bounds at the inferred and at the optimal λ, on noise independent of the solve's.

    Both bounds and the log-likelihood see the same noise, so that much of it cancels in the gaps;
    for an affine decoder all three are exact. The proposal of the log-likelihood is q* or the
    Laplace approximation at its mean, which is the exact posterior of an affine decoder: see
    :func:`closer_estimate`.

    Args:
        model: p(x, z).
        inference: the run's inference, judged as it is used in tests.
        x: the examples.
        steps: of the solve for q*, at most.
        importance_samples: S of all three estimates.
        generator: the source of all noise.
    """
    family, model = inference.family, model.given(x)
    inferred = inference(model, x, max_steps=inference.test_max_steps, generator=generator).value
    optimum = local_optimum(model, family, x, inferred, steps=steps, generator=generator)
    seed = int(torch.randint(2**31, (), generator=generator))

    def noise() -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    best = with_density(family, model, optimum.value)
    proposals = [best]
    if not family.is_map:
        laplace = LaplaceFamily(family.latent_dim)
        proposals.append(laplace.distribution(best.mean, model))
    estimates = [
        importance_log_likelihood(model, q, x, importance_samples, noise()) for q in proposals
    ]
    at_inferred, at_optimal = (
        sharp_bound(model, q, x, importance_samples, noise())
        for q in (with_density(family, model, inferred), best)
    )
    return Gaps(at_inferred, at_optimal, closer_estimate(estimates).log_likelihood, optimum)


def closer_estimate(estimates: Sequence[ImportanceEstimate]) -> ImportanceEstimate:
    """The estimate of log p(x) by the better proposal, one choice for all the examples.

    It is the one with the most effective samples, unless another one's mean is larger by
    4 standard errors of the difference: every estimate is a lower bound in expectation, so a
    larger one is closer, but the larger of two noisy ones is larger by chance as well. (To take
    the larger for each example by itself would be biased upwards by all of the noise.)
    """
    chosen = max(estimates, key=lambda estimate: float(estimate.effective_samples.mean()))
    for other in estimates:
        gain = other.log_likelihood - chosen.log_likelihood
        spread = gain.std() if len(gain) > 1 else torch.inf
        if gain.mean() > SIGNIFICANT * spread / math.sqrt(len(gain)):
            chosen = other
    return chosen
