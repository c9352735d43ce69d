"""p(x|z) of binary data: the outputs are the logits of the probabilities."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from savi.types import Observations
from savi.vae.likelihoods.base import LIKELIHOODS, Decoded, Likelihood


@LIKELIHOODS.register("bernoulli")
class BernoulliLikelihood(Likelihood):
    """log p(x|z) = Σ_i [x_i log σ(o_i) + (1 − x_i) log σ(−o_i)]."""

    support = "binary"

    def log_density(self, x: Observations, o: Decoded) -> Decoded:
        """The values of x_i o_i + log σ(−o_i)."""
        return x * o + logsigmoid(-o)

    def mean(self, o: Decoded) -> Decoded:
        """The probabilities σ(o)."""
        return o.sigmoid()

    def sample(self, o: Decoded, generator: torch.Generator) -> Decoded:
        """Ones with these probabilities, zeros otherwise."""
        uniform = torch.rand(o.shape, generator=generator, dtype=o.dtype, device=generator.device)
        return (uniform.to(o.device) < self.mean(o)).to(o.dtype)

    def score(self, x: Observations, o: Decoded) -> Decoded:
        """The residual x − σ(o)."""
        return x - o.sigmoid()

    def curvature(self, x: Observations, o: Decoded) -> Decoded:
        """σ(o)(1 − σ(o)), whatever x is."""
        return self.fisher(o)

    def fisher(self, o: Decoded) -> Decoded:
        """The variance σ(o) σ(−o)."""
        probability: Tensor = o.sigmoid()
        return probability * (-o).sigmoid()
