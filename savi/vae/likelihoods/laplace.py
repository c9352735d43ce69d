"""p(x|z) with heavier tails than a Gaussian: the outputs are the medians, b is a scale."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor

from savi.types import Observations, PerExample, PerSample, Scalar
from savi.vae.likelihoods.base import LIKELIHOODS, Decoded, Likelihood
from savi.vae.variance import whole_batch_mean


@LIKELIHOODS.register("laplace")
class LaplaceLikelihood(Likelihood):
    """log p(x|z) = −Σ_i [|x_i − μ_i|/b + log 2b], with one b for all dimensions.

    b is the mean absolute deviation (1/nD) Σ E_q|x_i − μ_i|, the maximiser of the bound: that of
    the batch in the outer ELBO of training, and a running mean elsewhere, as the ``optimal`` γ of a
    Gaussian is. It is a maximiser, so that it can be held constant in the gradient.

    The density has a kink at μ, and beside it −∂² log p/∂μ² = 0: the Hessian of the bound says
    nothing of how it bends. Gauss–Newton, Laplace posteriors and natural gradients take the Fisher
    weight 1/b²; what needs the Hessian itself is refused (``smooth``).
    """

    smooth = False

    #: How far the running mean follows a batch, and the least b.
    momentum, floor = 0.1, 1e-3

    b: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.register_buffer("b", torch.ones(1))

    @classmethod
    def of(cls, model: Mapping[str, Any], dim: int, data_variance: float) -> Self:
        """With the b of that variance, 2b²."""
        made = super().of(model, dim, data_variance)
        made.b.fill_(max(math.sqrt(data_variance / 2.0), cls.floor))
        return made

    def log_density(self, x: Observations, o: Decoded) -> Decoded:
        """The values of −|x_i − μ_i|/b − log 2b."""
        return -(x - o).abs() / self.b - (2.0 * self.b).log()

    def forward(
        self, x: Observations, o: Float[Tensor, "S B D"], outer: bool = False
    ) -> tuple[PerSample, PerSample]:
        """As of every likelihood; the outer ELBO of a training batch has the batch's own b."""
        residual = self.observed(x) - o
        deviation = residual.abs().sum(dim=-1)
        b = self._of_batch(deviation.detach().mean(dim=0)) if outer and self.training else self.b
        log_prob = -deviation / b - self.dim * (2.0 * b).log()
        return log_prob, residual.detach().square().sum(dim=-1)

    def mean(self, o: Decoded) -> Decoded:
        """The outputs themselves."""
        return o

    def sample(self, o: Decoded, generator: torch.Generator) -> Decoded:
        """By the quantiles −b sign(u) log(1 − 2|u|) of a u that is uniform around 0."""
        u = torch.rand(o.shape, generator=generator, dtype=o.dtype, device=generator.device)
        u = u.to(o.device) - 0.5
        return o - self.b * u.sign() * torch.log1p(-2.0 * u.abs().clamp_max(0.5 - 1e-9))

    def score(self, x: Observations, o: Decoded) -> Decoded:
        """The sign of x − μ, over b."""
        return (x - o).sign() / self.b

    def curvature(self, x: Observations, o: Decoded) -> Decoded:
        """0 beside the kink."""
        return torch.zeros_like(o)

    def fisher(self, o: Decoded) -> Decoded:
        """1/b²."""
        return self.b.square().reciprocal().expand_as(o)

    def equal_variance(self) -> Float[Tensor, "#D"]:
        """The square of b."""
        return self.b.square()

    def figures(self) -> dict[str, Scalar]:
        """The scale b."""
        return {"scale": self.b.mean()}

    def deviation(self, x: Observations, o: Float[Tensor, "S B D"]) -> PerSample:
        """Σ_i |x_i − μ_i|."""
        return (self.observed(x) - o.detach()).abs().sum(dim=-1)

    @torch.no_grad()
    def observe(self, squared_error: PerExample, deviation: PerExample | None = None) -> None:
        """Move the running mean towards the batch's b."""
        assert deviation is not None
        # A new tensor: the graph of the batch, not yet backpropagated, holds the old one.
        self.b = self.b.lerp(self._of_batch(deviation).to(self.b), self.momentum)

    def _of_batch(self, deviation: PerExample) -> Float[Tensor, 1]:
        mean = whole_batch_mean(deviation.detach())
        return (mean / self.dim).clamp_min(self.floor).reshape(1)
