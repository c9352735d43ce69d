"""The variational distributions q(z|x), once their parameters are known, and their noise ε."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal, kl_divergence

from savi.errors import InputError
from savi.types import Codes, Index, PerExample, PerSample, Samples

#: The noise [S, B, d] of an inner step.
NoiseSchedule = Callable[[int], Tensor]


def standard_log_prob(z: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
    """The values of log N(z; 0, I)."""
    return -0.5 * (z.square().sum(dim=-1) + z.shape[-1] * math.log(2.0 * math.pi))


class Posterior(ABC):
    """q(z|x) for a batch of examples.

    Attributes:
        mean: its means.
        closed_kl: whether KL(q ‖ N(0, I)) is in closed form.
    """

    mean: Codes
    closed_kl: ClassVar[bool] = True

    @abstractmethod
    def rsample(self, noise: Samples) -> Samples:
        """Samples z as a differentiable function of standard normal noise."""

    @abstractmethod
    def log_prob(self, z: Samples) -> PerSample:
        """The values of log q(z|x) in nats."""

    @abstractmethod
    def kl_per_dimension(self) -> Codes:
        """KL(q ‖ N(0, I)) in nats, split over the dimensions so that it sums to the whole.

        Where that is in no closed form, the KL from another law, which is (:meth:`log_reference`).
        """

    def log_reference(self, z: Samples) -> PerSample:
        """The log-density of the law that :meth:`kl_per_dimension` is the KL from."""
        return standard_log_prob(z)

    @property
    @abstractmethod
    def variance(self) -> Codes:
        """The marginal variances."""

    @abstractmethod
    def kl_to(self, other: Posterior) -> PerExample:
        """KL(q ‖ other) in nats."""

    def detach(self) -> Self:
        """The same without a graph."""
        return type(self)(*(field.detach() for field in vars(self).values()))

    def cpu(self) -> Self:
        """The same on the CPU."""
        return type(self)(*(field.cpu() for field in vars(self).values()))

    def join(self, parts: Sequence[Self]) -> Self:
        """The posteriors of several batches, all of this kind, as those of one batch."""
        fields = zip(*(vars(q).values() for q in parts), strict=True)
        return type(self)(*map(torch.cat, fields))

    def __getitem__(self, examples: slice | Index) -> Self:
        """The posteriors of some of the examples."""
        return type(self)(*(field[examples] for field in vars(self).values()))


def stack(parts: Sequence[Posterior]) -> Posterior:
    """The posteriors of several batches, all of one kind, as those of one batch."""
    return parts[0].join(parts)


class Gaussian(Posterior):
    """What PyTorch knows of Gaussians."""

    @abstractmethod
    def _law(self) -> Distribution: ...

    @property
    @abstractmethod
    def precision(self) -> Float[Tensor, "B d d"]:
        """The inverse of the covariance."""

    def log_prob(self, z: Samples) -> PerSample:
        """The values of log q(z|x) in nats."""
        return self._law().log_prob(z)

    def kl_to(self, other: Posterior) -> PerExample:
        """Closed form between Gaussians of one kind."""
        assert isinstance(other, Gaussian)
        return kl_divergence(self._law(), other._law())


@dataclass(frozen=True)
class DiagonalGaussian(Gaussian):
    """q = N(mean, diag exp(log_variance))."""

    mean: Codes
    log_variance: Codes

    def rsample(self, noise: Samples) -> Samples:
        """Samples z = mean + s ∘ ε."""
        return torch.addcmul(self.mean, (0.5 * self.log_variance).exp(), noise)

    def kl_per_dimension(self) -> Codes:
        """½(mean² + s² − 1 − log s²)."""
        ell = self.log_variance
        return 0.5 * (self.mean.square() + ell.exp() - 1.0 - ell)

    @property
    def variance(self) -> Codes:
        """s²."""
        return self.log_variance.exp()

    @property
    def precision(self) -> Float[Tensor, "B d d"]:
        """The diagonal matrix of 1/s²."""
        return torch.diag_embed((-self.log_variance).exp())

    def _law(self) -> Independent:
        scale = (0.5 * self.log_variance).exp()
        return Independent(Normal(self.mean, scale, validate_args=False), 1, validate_args=False)


@dataclass(frozen=True)
class FullGaussian(Gaussian):
    """q = N(mean, L Lᵀ) with L lower triangular, positive on the diagonal."""

    mean: Codes
    scale_tril: Float[Tensor, "B d d"]

    def rsample(self, noise: Samples) -> Samples:
        """Samples z = mean + L ε."""
        return self.mean + torch.einsum("bij,sbj->sbi", self.scale_tril, noise)

    def kl_per_dimension(self) -> Codes:
        """½(mean_i² + (L Lᵀ)_ii − 1) − log L_ii: the entropy is split by the chain rule."""
        log_scale = self.scale_tril.diagonal(dim1=-2, dim2=-1).log()
        return 0.5 * (self.mean.square() + self.variance - 1.0) - log_scale

    @property
    def variance(self) -> Codes:
        """The diagonal of L Lᵀ."""
        return self.scale_tril.square().sum(dim=-1)

    @property
    def precision(self) -> Float[Tensor, "B d d"]:
        """(L Lᵀ)⁻¹."""
        return torch.cholesky_inverse(self.scale_tril)

    def _law(self) -> MultivariateNormal:
        return MultivariateNormal(self.mean, scale_tril=self.scale_tril, validate_args=False)


@dataclass(frozen=True)
class PointMass(Posterior):
    """All mass at one z: λ = z, the notation of Chiu (2021).

    It has no entropy, so the "KL" is the cross-entropy −log p(z), and the "ELBO" is the log joint
    log p(x, z): the objective of MAP inference, not a bound on log p(x).
    """

    mean: Codes

    def rsample(self, noise: Samples) -> Samples:
        """One copy of the point, whatever the noise."""
        return self.mean.unsqueeze(0)

    def log_prob(self, z: Samples) -> PerSample:
        """Refused: a point mass has no density.

        Raises:
            InputError: always.
        """
        raise InputError("a point mass has no density: take posterior 'laplace'")

    def kl_per_dimension(self) -> Codes:
        """−log N(z_i; 0, 1)."""
        return -Normal(0.0, 1.0, validate_args=False).log_prob(self.mean)

    @property
    def variance(self) -> Codes:
        """Zero."""
        return torch.zeros_like(self.mean)

    def kl_to(self, other: Posterior) -> PerExample:
        """Refused: infinite unless the points agree.

        Raises:
            InputError: always.
        """
        raise InputError(
            "a point mass has no density, so KL(q‖q') is infinite: take the encoder loss "
            "'distill', which compares the points themselves"
        )


def antithetic_noise(
    samples: int, like: Codes, generator: torch.Generator | None = None
) -> Samples:
    """S standard normal samples in pairs (ε, −ε); an odd S leaves its last one unpaired.

    Pairs cancel every odd function of ε exactly: for an affine decoder the gradient in the mean
    of q is then free of noise.
    """
    shape = ((samples + 1) // 2, *like.shape)
    device = like.device if generator is None else generator.device
    half = torch.randn(shape, dtype=like.dtype, device=device, generator=generator)
    return torch.cat([half, -half])[:samples].to(like.device)


def independent_noise(
    samples: int, like: Codes, generator: torch.Generator | None = None
) -> Samples:
    """S independent standard normal samples."""
    device = like.device if generator is None else generator.device
    shape = (samples, *like.shape)
    return torch.randn(shape, dtype=like.dtype, device=device, generator=generator).to(like.device)


def orthogonal_noise(
    samples: int, like: Codes, generator: torch.Generator | None = None
) -> Samples:
    """Antithetic pairs along directions that are orthogonal in groups of d, all of norm √d.

    Each sample is unbiased to second moments (E εεᵀ = I), and S = 2d samples have them exactly,
    (1/S) Σ εεᵀ = I: an inner problem with this noise has far less to fit in the noise itself. For
    an affine decoder and S = 2d the Monte Carlo ELBO is the exact one.
    """
    d = like.shape[-1]
    draw = antithetic_noise(samples, like, generator)
    pairs = (samples + 1) // 2
    groups = [
        # The rows of Qᵀ are orthonormal and uniformly distributed.
        torch.linalg.qr(part.transpose(0, 1).mT)[0].mT.transpose(0, 1)
        for part in draw[:pairs].split(d)
    ]
    half = d**0.5 * torch.cat(groups)
    return torch.cat([half, -half])[:samples]


def common_noise(
    samples: int, like: Codes, generator: torch.Generator | None = None
) -> NoiseSchedule:
    """Common random numbers: one draw that all steps of the solve share."""
    noise = orthogonal_noise(samples, like, generator)
    return lambda step: noise


def fresh_noise(
    samples: int, like: Codes, generator: torch.Generator | None = None
) -> NoiseSchedule:
    """A draw of its own for every step, the same whenever a step is repeated."""
    device = "cpu" if generator is None else generator.device
    seed = int(torch.randint(2**62, (), generator=generator, device=device))

    def at_step(step: int) -> Tensor:
        return orthogonal_noise(samples, like, torch.Generator().manual_seed(seed + step))

    return at_step
