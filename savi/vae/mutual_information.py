"""How much the codes say of the examples."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from savi.vae.distributions import Posterior

#: Entries of a piece of the N × N × d comparison of every sample with every posterior.
MATRIX_ENTRIES = 2**20


@torch.no_grad()
def mutual_information(q: Posterior, noise: Float[Tensor, "1 N d"]) -> float:
    """I(x; z) under q(z|x) and the empirical distribution of N examples, in nats.

    I = (1/N) Σ_n [log q(z_n|x_n) − log (1/N) Σ_m q(z_n|x_m)], z_n ~ q(z|x_n): one sample per
    example (Hoffman and Johnson 2016). It cannot exceed log N.
    """
    z = q.rsample(noise)[0]
    own, aggregate = q.log_prob(z.unsqueeze(0))[0], torch.empty_like(z[:, 0])
    # Rows of the N × N matrix log q(z_n|x_m), a few at a time to bound the memory.
    rows = max(1, MATRIX_ENTRIES // z.numel())
    for first in range(0, len(z), rows):
        part = z[first : first + rows]
        against_all = q.log_prob(part[:, None, :].expand(-1, len(z), -1))
        aggregate[first : first + rows] = against_all.logsumexp(dim=-1) - math.log(len(z))
    return float((own - aggregate).mean())
