"""Monte Carlo estimates of any number of samples, in chunks of fixed memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from savi.errors import require_at_least
from savi.types import Observations
from savi.vae.distributions import Posterior, antithetic_noise
from savi.vae.elbo import Bound, log_ratio
from savi.vae.model import VAE

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
    model: VAE, q: Posterior, x: Observations, samples: int, generator: torch.Generator
) -> Bound:
    """The ELBO with any number of antithetic samples, and what of the KL has a closed form.

    Raises:
        InputError: for less than one sample.
    """
    reconstruction = torch.zeros_like(x[:, 0])
    squared_error = torch.zeros_like(x[:, 0])
    lacking = None if model.prior.standard and q.closed_kl else torch.zeros_like(x[:, 0])
    for part, z, share in draws(q, x, samples, generator, model.likelihood.num_outputs):
        few = x[part]
        log_likelihood, squares = model.likelihood(few, model.given(few).decode(z))
        reconstruction[part] += log_likelihood.mean(dim=0) * share
        squared_error[part] += squares.mean(dim=0) * share
        if lacking is not None and (found := log_ratio(model, q[part], z)) is not None:
            lacking[part] += found * share
    return Bound(reconstruction, q.kl_per_dimension(), squared_error, log_ratio=lacking)


def draws(
    q: Posterior, x: Observations, samples: int, generator: torch.Generator, outputs: int
) -> Iterator[tuple[slice, Float[Tensor, "s b d"], float]]:
    """Pieces of all the samples: of which examples, z itself, and its share of their samples.

    Two samples of a large batch of large examples can be more than a chunk: then the batch is
    taken in pieces too. An example is decoded to so many ``outputs``.
    """
    require_at_least("samples", samples, 1)
    for part in example_slices(len(x), 2 * outputs):
        few = q[part]
        for size in chunk_sizes(samples, few.mean.shape[0] * outputs):
            yield part, few.rsample(antithetic_noise(size, few.mean, generator)), size / samples
