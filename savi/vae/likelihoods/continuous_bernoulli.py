"""p(x|z) of numbers in [0, 1]: a normalised density where the Bernoulli's formula has none."""

from __future__ import annotations

import torch
from torch import Tensor

from savi.types import Observations
from savi.vae.likelihoods.base import LIKELIHOODS, Decoded, Likelihood

#: Below it a function of o is a power series in (o/2)², whose next term is lost in rounding: the
#: closed forms divide by o, and what they subtract is nearly the same.
SMALL = 0.5
#: Below it a sample's quantile function is linear in o.
TINY = 1e-4


@LIKELIHOODS.register("continuous_bernoulli")
class ContinuousBernoulliLikelihood(Likelihood):
    """p(x|o) ∝ λ^x (1 − λ)^{1−x} on [0, 1], λ = σ(o) (Loaiza-Ganem and Cunningham 2019).

    An exponential family (arXiv 1907.06845): log p = x o − A(o) with A(o) = log((eᵒ − 1)/o). So its
    mean is A'(o), its Fisher weight A''(o) the variance of x, and −∇² log p is the same.
    """

    support = "unit"

    def log_density(self, x: Observations, o: Decoded) -> Decoded:
        """The values of x_i o_i − A(o_i)."""
        return x * o - log_partition(o)

    def mean(self, o: Decoded) -> Decoded:
        """A'(o) = 1/(1 − e⁻ᵒ) − 1/o, and ½ at 0."""
        small, x, size = _split(o)
        square = x.square()
        series = x * (1 / 3 - square * (1 / 45 - square * (2 / 945 - square * (1 / 4725))))
        series = series + x.pow(9) * (2 / 93555)
        direct = -1.0 / torch.expm1(-size) - 1.0 / size
        direct = torch.where(o > 0, direct, 1.0 - direct)
        return torch.where(small, 0.5 + 0.5 * series, direct)

    def sample(self, o: Decoded, generator: torch.Generator) -> Decoded:
        """The quantile log(1 + u (eᵒ − 1))/o of a uniform u."""
        u = torch.rand(o.shape, generator=generator, dtype=o.dtype, device=generator.device)
        u = u.to(o.device)
        size = o.abs().clamp_min(TINY)
        # For o < 0 that of −o, reflected: nothing overflows.
        v = torch.where(o > 0, u, 1.0 - u)
        quantile = 1.0 + torch.log(v + (1.0 - v) * (-size).exp()) / size
        quantile = torch.where(o > 0, quantile, 1.0 - quantile).clamp(0.0, 1.0)
        return torch.where(o.abs() < TINY, u + 0.5 * o * u * (1.0 - u), quantile)

    def score(self, x: Observations, o: Decoded) -> Decoded:
        """The residual x − A'(o)."""
        return x - self.mean(o)

    def curvature(self, x: Observations, o: Decoded) -> Decoded:
        """A''(o), whatever x is."""
        return self.fisher(o)

    def fisher(self, o: Decoded) -> Decoded:
        """A''(o) = 1/o² − 1/(4 sinh²(o/2)), and 1/12 at 0."""
        small, x, size = _split(o)
        square = x.square()
        series = 1 / 3 - square * (1 / 15 - square * (2 / 189 - square * (1 / 675)))
        series = series + x.pow(8) * (2 / 10395)
        # e⁻ᵒ/(1 − e⁻ᵒ)² is the second term, without a sinh that overflows.
        shrunk = (-size).exp()
        direct = size.square().reciprocal() - shrunk / (1.0 - shrunk).square()
        return torch.where(small, 0.25 * series, direct)


def log_partition(o: Decoded) -> Decoded:
    """A(o) = log((eᵒ − 1)/o) = o/2 + log(sinh(o/2)/(o/2)), and 0 at 0."""
    small, x, size = _split(o)
    square = x.square()
    series = square * (1 / 6 - square * (1 / 180 - square * (1 / 2835 - square * (1 / 37800))))
    series = series + x.pow(10) * (1 / 467775)
    direct = torch.where(o > 0, size, 0.0) + torch.log(-torch.expm1(-size)) - size.log()
    return torch.where(small, x + series, direct)


def _split(o: Decoded) -> tuple[Tensor, Decoded, Decoded]:
    """Which o are small, their halves, and the sizes of the others; 0 and 1 in their places.

    So that the branch that is not taken has finite values and derivatives. The sizes are chosen,
    not absolute values: nothing has a kink at 0, and nothing that looks for kinks finds one.
    """
    small = o.detach().abs() < SMALL
    size = torch.where(o > 0, o, -o)
    return small, 0.5 * torch.where(small, o, 0.0), torch.where(small, 1.0, size)
