"""A normalising flow: a diagonal Gaussian pushed through an invertible map of the codes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from savi.types import Codes, Index, PerExample, PerSample, Samples
from savi.vae.distributions import DiagonalGaussian, Posterior, standard_log_prob

Points: TypeAlias = Float[Tensor, "*batch d"]
Values: TypeAlias = Float[Tensor, "*batch"]

#: No layer scales a coordinate by more than e to this power, or by less than its inverse.
LARGEST_LOG_SCALE = 2.0


class CouplingFlow(nn.Module):
    """f = f_L ∘ … ∘ f_1 of affine couplings (Dinh et al. 2017, arXiv 1605.08803); at first z = u.

    A layer leaves one half a of the coordinates as it is, and gives each number b of the other half
    a scale and a shift that are a perceptron's answers to a: b exp(s(a)) + t(a). The halves take
    turns. Inverse and log |det ∂f/∂u| = Σ s are in closed form, and f is smooth.

    Args:
        latent_dim: d, 2 or more.
        layers: L.
        hidden: the width of the perceptrons, which have one hidden layer.
    """

    def __init__(self, latent_dim: int, layers: int, hidden: int) -> None:
        super().__init__()
        self.first = latent_dim // 2
        sizes = self.first, latent_dim - self.first
        self.nets = nn.ModuleList()
        for number in range(layers):
            kept, moved = sizes if number % 2 == 0 else sizes[::-1]
            last = nn.Linear(hidden, 2 * moved)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            self.nets.append(nn.Sequential(nn.Linear(kept, hidden), nn.Tanh(), last))

    def _halves(self, z: Points, number: int) -> Sequence[Tensor]:
        """What a layer keeps, and what it moves."""
        halves = z.tensor_split([self.first], dim=-1)
        return halves if number % 2 == 0 else halves[::-1]

    def _whole(self, kept: Tensor, moved: Tensor, number: int) -> Points:
        return torch.cat([kept, moved] if number % 2 == 0 else [moved, kept], dim=-1)

    def _scale_and_shift(self, kept: Tensor, number: int) -> tuple[Tensor, Tensor]:
        raw, shift = self.nets[number](kept).chunk(2, dim=-1)
        return LARGEST_LOG_SCALE * torch.tanh(raw / LARGEST_LOG_SCALE), shift

    def forward(self, u: Points) -> tuple[Points, Values]:
        """Z = f(u) and log |det ∂f/∂u|."""
        log_det = torch.zeros_like(u[..., 0])
        for number in range(len(self.nets)):
            kept, moved = self._halves(u, number)
            scale, shift = self._scale_and_shift(kept, number)
            u = self._whole(kept, moved * scale.exp() + shift, number)
            log_det = log_det + scale.sum(dim=-1)
        return u, log_det

    def inverse(self, z: Points) -> tuple[Points, Values]:
        """U with f(u) = z, and log |det ∂f/∂u| there."""
        log_det = torch.zeros_like(z[..., 0])
        for number in reversed(range(len(self.nets))):
            kept, moved = self._halves(z, number)
            scale, shift = self._scale_and_shift(kept, number)
            z = self._whole(kept, (moved - shift) * (-scale).exp(), number)
            log_det = log_det + scale.sum(dim=-1)
        return z, log_det

    def constant(self) -> CouplingFlow:
        """A copy without a graph."""
        return copy.deepcopy(self).requires_grad_(False)


@dataclass(frozen=True)
class FlowPosterior(Posterior):
    """The law of z = f(u) with u ~ N(base_mean, diag exp(log_variance)).

    Its ``mean`` is f at the mean of u, and its ``variance`` that of 2d points at one standard
    deviation of the noise: exact where f is affine.
    """

    base_mean: Codes
    log_variance: Codes
    flow: CouplingFlow

    closed_kl = False

    @property
    def base(self) -> DiagonalGaussian:
        """The law of u."""
        return DiagonalGaussian(self.base_mean, self.log_variance)

    @property
    def mean(self) -> Codes:  # type: ignore[override]
        """The image of the mean of u."""
        z: Tensor = self.flow(self.base_mean)[0]
        return z

    def rsample(self, noise: Samples) -> Samples:
        """Samples z = f(u)."""
        z: Tensor = self.flow(self.base.rsample(noise))[0]
        return z

    def log_prob(self, z: Samples) -> PerSample:
        """The values of log N(u; …) − log |det ∂f/∂u|."""
        u, log_det = self.flow.inverse(z)
        return self.base.log_prob(u) - log_det

    def kl_per_dimension(self) -> Codes:
        """That of u from N(0, I), which is that of z from the image of N(0, I) under f."""
        return self.base.kl_per_dimension()

    def log_reference(self, z: Samples) -> PerSample:
        """The log-density of that image."""
        u, log_det = self.flow.inverse(z)
        return standard_log_prob(u) - log_det

    @property
    def variance(self) -> Codes:
        """The mean square of the deviations from ``mean``."""
        d = self.base_mean.shape[-1]
        half = d**0.5 * torch.eye(d, dtype=self.base_mean.dtype, device=self.base_mean.device)
        noise = torch.cat([half, -half]).unsqueeze(1).expand(-1, len(self.base_mean), -1)
        return (self.rsample(noise) - self.mean).square().mean(dim=0)

    def kl_to(self, other: Posterior) -> PerExample:
        """That of the two laws of u, which f, the same for both, leaves as it is."""
        assert isinstance(other, FlowPosterior)
        return self.base.kl_to(other.base)

    def detach(self) -> Self:
        """The same without a graph."""
        base_mean, log_variance = self.base_mean.detach(), self.log_variance.detach()
        return type(self)(base_mean, log_variance, self.flow.constant())

    def cpu(self) -> Self:
        """The same on the CPU, without a graph."""
        flow = self.flow.constant().cpu()
        return type(self)(self.base_mean.cpu(), self.log_variance.cpu(), flow)

    def join(self, parts: Sequence[Self]) -> Self:
        """Several batches as one."""
        base = self.base.join([part.base for part in parts])
        return replace(self, base_mean=base.mean, log_variance=base.log_variance)

    def __getitem__(self, examples: slice | Index) -> Self:
        """The posteriors of some of the examples."""
        few = self.base[examples]
        return replace(self, base_mean=few.mean, log_variance=few.log_variance)
