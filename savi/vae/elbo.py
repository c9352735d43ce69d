"""The evidence lower bound."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from savi.errors import require_at_least
from savi.vae.distributions import Posterior
from savi.vae.model import GaussianVAE, KLWeight
from savi.vae.noise import antithetic_noise


@dataclass(frozen=True)
class Bound:
    """The terms of L = E_q log p(x|z) − KL(q ‖ p), in nats, one value per example.

    Attributes:
        reconstruction: (1/S) Σ_s log p(x|z_s), shape [B].
        kl_per_dimension: shape [B, d].
        squared_error: (1/S) Σ_s ‖x − μ(z_s)‖², shape [B].
    """

    reconstruction: Float[Tensor, " B"]
    kl_per_dimension: Float[Tensor, "B d"]
    squared_error: Float[Tensor, " B"]

    @property
    def kl(self) -> Float[Tensor, " B"]:
        """KL(q ‖ p)."""
        return self.kl_per_dimension.sum(dim=-1)

    @property
    def elbo(self) -> Float[Tensor, " B"]:
        """L."""
        return self.reconstruction - self.kl

    def objective(self, beta: KLWeight = 1.0, free_bits: float = 0.0) -> Float[Tensor, ""]:
        """What training maximises: the mean of E_q log p(x|z) − β Σ_i max(KL_i, free bits).

        The free bits (nats per dimension) apply to each dimension's mean KL over the batch
        (Kingma et al. 2016, arXiv 1606.04934).
        """
        if free_bits == 0.0:
            return (self.reconstruction - beta * self.kl).mean()
        kl = self.kl_per_dimension.mean(dim=0).clamp_min(free_bits).sum()
        return self.reconstruction.mean() - beta * kl


def elbo(
    model: GaussianVAE,
    q: Posterior,
    x: Float[Tensor, "B D"],
    noise: Float[Tensor, "S B d"],
) -> Bound:
    """The bound with S reparameterised samples, one for each slice of ``noise``.

    In training, an ``optimal`` γ is the batch's own (see :class:`OptimalVariance`).
    """
    log_likelihood, squared_error = model.likelihood(x, model.decode(q.rsample(noise)), outer=True)
    return Bound(log_likelihood.mean(dim=0), q.kl_per_dimension(), squared_error.mean(dim=0))


#: Entries of a decoded chunk [S, B, D]: 16 MiB in float32. Larger blocks are not kept by the C
#: library when they are freed, and to get them anew from the system takes as long as to decode.
CHUNK_ENTRIES = 2**22


def chunk_sizes(samples: int, entries_per_sample: int) -> Iterator[int]:
    """Even numbers of samples that sum to ``samples`` (the last may be odd) and fit a chunk."""
    largest = max(2, CHUNK_ENTRIES // entries_per_sample // 2 * 2)
    for done in range(0, samples, largest):
        yield min(largest, samples - done)


def example_slices(examples: int, entries_per_example: int) -> Iterator[slice]:
    """Slices of consecutive examples that fit a chunk, or hold one example that does not."""
    largest = max(1, CHUNK_ENTRIES // entries_per_example)
    for first in range(0, examples, largest):
        yield slice(first, min(first + largest, examples))


@torch.no_grad()
def expected_bound(
    model: GaussianVAE,
    q: Posterior,
    x: Float[Tensor, "B D"],
    samples: int,
    generator: torch.Generator,
) -> Bound:
    """The ELBO with any number of antithetic samples and the closed-form KL.

    Raises:
        InputError: for less than one sample.
    """
    reconstruction = torch.zeros_like(x[:, 0])
    squared_error = torch.zeros_like(x[:, 0])
    for part, z, share in _draws(q, x, samples, generator):
        log_likelihood, squares = model.likelihood(x[part], model.decode(z))
        reconstruction[part] += log_likelihood.mean(dim=0) * share
        squared_error[part] += squares.mean(dim=0) * share
    return Bound(reconstruction, q.kl_per_dimension(), squared_error)


def _draws(
    q: Posterior, x: Float[Tensor, "B D"], samples: int, generator: torch.Generator
) -> Iterator[tuple[slice, Float[Tensor, "s b d"], float]]:
    """Pieces of all the samples: of which examples, z itself, and its share of their samples.

    Two samples of a large batch of large examples can be more than a chunk: then the batch is
    taken in pieces too.
    """
    require_at_least("samples", samples, 1)
    for part in example_slices(len(x), 2 * x.shape[1]):
        few = q[part]
        for size in chunk_sizes(samples, few.mean.shape[0] * x.shape[1]):
            yield part, few.rsample(antithetic_noise(size, few.mean, generator)), size / samples
