"""p(x|z) = N(μ, γI): the outputs are the mean, and γ is a variance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor

from savi.errors import within
from savi.types import Observations, PerExample, PerSample, Scalar
from savi.vae.likelihoods.base import LIKELIHOODS, Decoded, Likelihood
from savi.vae.quadratic import PixelQuadratic, log_normaliser, weighted_sum
from savi.vae.variance import VARIANCES, ObservationVariance


@LIKELIHOODS.register("gaussian")
class GaussianLikelihood(Likelihood):
    """log p(x|z) = −½ Σ_i [(x_i − μ_i)²/γ_i + log 2πγ_i]; γ is a variance.

    Args:
        gamma: the module that yields γ.
    """

    def __init__(self, gamma: ObservationVariance) -> None:
        super().__init__(gamma.dim)
        self.gamma = gamma

    @classmethod
    def of(cls, model: Mapping[str, Any], dim: int, data_variance: float) -> Self:
        """With the γ of the group, which starts at the variance of the data unless it is set."""
        gamma = model["gamma"]
        value = data_variance if gamma["value"] is None else gamma["value"]
        with within("model.gamma"):
            return cls(VARIANCES[gamma["mode"]](dim, value, gamma["floor"]))

    @classmethod
    def check(cls, model: Mapping[str, Any]) -> None:
        """Nothing: γ is its own."""

    def forward(
        self, x: Observations, o: Float[Tensor, "S B D"], outer: bool = False
    ) -> tuple[PerSample, PerSample]:
        """The values of log p(x|z) in nats, and ‖x − μ‖² without a graph.

        ``outer`` asks for the γ of the outer ELBO, which an ``optimal`` γ takes from the batch.
        """
        square = (self.observed(x) - o).square()
        squared_error = square.sum(dim=-1)
        gamma = self.gamma.of_batch(squared_error.detach().mean(dim=0)) if outer else self.gamma()
        shared = gamma.shape[-1] == 1
        weighted = squared_error / gamma.squeeze(-1) if shared else weighted_sum(square, gamma)
        return -0.5 * (weighted + log_normaliser(square, gamma)), squared_error.detach()

    def log_density(self, x: Observations, o: Decoded) -> Decoded:
        """The values of −½ [(x_i − μ_i)²/γ_i + log 2πγ_i]."""
        gamma = self.gamma()
        return -0.5 * ((x - o).square() / gamma + (2.0 * math.pi * gamma).log())

    def log_prob(self, x: Observations, o: Decoded) -> Float[Tensor, "*S B"]:
        """The sum of these."""
        return self.terms(x).value(o)

    def mean(self, o: Decoded) -> Decoded:
        """The outputs themselves."""
        return o

    def sample(self, o: Decoded, generator: torch.Generator) -> Decoded:
        """The mean and √γ times standard normal noise."""
        noise = torch.randn(o.shape, generator=generator, dtype=o.dtype, device=generator.device)
        return o + self.gamma().sqrt() * noise.to(o.device)

    def score(self, x: Observations, o: Decoded) -> Decoded:
        """(x − μ)/γ."""
        return (x - o) / self.gamma()

    def curvature(self, x: Observations, o: Decoded) -> Decoded:
        """1/γ, whatever x is."""
        return self.fisher(o)

    def fisher(self, o: Decoded) -> Decoded:
        """1/γ."""
        return self.gamma().reciprocal().expand_as(o)

    def terms(self, x: Observations) -> PixelQuadratic:
        """A quadratic function of μ."""
        return PixelQuadratic(self.observed(x), self.gamma())

    def equal_variance(self) -> Float[Tensor, "#D"]:
        """Γ itself."""
        return self.gamma()

    def figures(self) -> dict[str, Scalar]:
        """γ, averaged over the dimensions."""
        return {"gamma": self.gamma().mean()}

    @torch.no_grad()
    def observe(self, squared_error: PerExample, deviation: PerExample | None = None) -> None:
        """Let an ``optimal`` γ learn from the batch."""
        self.gamma.observe(squared_error)
