"""One of everything that can be registered, each under the name ``mine``."""

import math
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn.functional import softplus

from savi.data import DATASETS, Examples, RawData
from savi.gradients import BACKENDS, GradientBackend
from savi.inference import ENCODER_LOSSES
from savi.inner import OBJECTIVES, OPTIMIZERS, AnchoredObjective, InnerOptimizer
from savi.training import OUTER_OPTIMIZERS
from savi.vae import (
    DECODERS,
    ENCODERS,
    LIKELIHOODS,
    POSTERIORS,
    PRIORS,
    DiagonalGaussian,
    Likelihood,
    PosteriorFamily,
    Prior,
)
from savi.vae.networks import Encoder


@DECODERS.register("mine")
class Decoder(nn.Module):
    """The mean of p(x|z): from codes [..., d] to data [..., D]."""

    def __init__(self, latent_dim, data_shape, *, hidden: int, slope: float = 1.0):
        super().__init__()
        self.slope = slope
        self.inner = nn.Linear(latent_dim, hidden)
        self.outer = nn.Linear(hidden, math.prod(data_shape))

    def forward(self, z):
        """The means, one for each code."""
        return self.outer(torch.tanh(self.slope * self.inner(z)))


@ENCODERS.register("mine")
class TanhEncoder(Encoder):
    """The inference network: flat layers from D to P numbers, the last one affine."""

    def layers(self, hidden, depth, activation):
        """One hidden layer, whatever the depth."""
        return [nn.Linear(self.data_dim, hidden), nn.Tanh(), nn.Linear(hidden, self.out_dim)]


@LIKELIHOODS.register("mine")
class Logistic(Likelihood):
    """x = o + s ε with ε of the logistic distribution: tails heavier than a Gaussian's."""

    def __init__(self, dim: int, spread: float = 0.3):
        super().__init__(dim)
        self.spread = spread

    def log_density(self, x, o):
        """Of each entry, in nats."""
        u = (x - o) / self.spread
        return -u - 2.0 * softplus(-u) - math.log(self.spread)

    def mean(self, o):
        """E[x|o]."""
        return o

    def sample(self, o, generator):
        """By the quantiles of uniform numbers."""
        u = torch.rand(o.shape, generator=generator, dtype=o.dtype, device=generator.device)
        return o + self.spread * u.to(o.device).logit(1e-6)

    def fisher(self, o):
        """The information on o in an x."""
        return torch.full_like(o, 1.0 / (3.0 * self.spread**2))


@PRIORS.register("mine")
class Wide(Prior):
    """Logistic distributions, one for each latent dimension."""

    def __init__(self, latent_dim, data_dim, width: float = 1.0):
        super().__init__(latent_dim, data_dim)
        self.width = width

    def log_prob(self, z):
        """In nats; derivatives come from autograd."""
        u = z / self.width
        return (-u - 2.0 * softplus(-u)).sum(dim=-1) - self.latent_dim * math.log(self.width)

    def sample(self, n, generator=None, dtype=None):
        """By the quantiles of uniform numbers."""
        u = torch.rand(n, self.latent_dim, generator=generator, dtype=dtype)
        return self.width * u.logit(1e-6)


@DATASETS.register("mine")
def ring(n: int = 200, width: float = 0.1) -> RawData:
    """Points near a circle."""
    source = torch.Generator().manual_seed(0)
    angle = 2 * math.pi * torch.rand(n, generator=source)
    circle = torch.stack([angle.cos(), angle.sin()], dim=1)
    return RawData(train=Examples(circle + width * torch.randn(n, 2, generator=source)))


@POSTERIORS.register("mine")
@dataclass
class Isotropic(PosteriorFamily):
    """N(mean, s² I): d + 1 numbers."""

    latent_dim: int
    widest: float = 20.0

    @property
    def num_params(self):
        """P."""
        return self.latent_dim + 1

    def distribution(self, lam):
        """From λ [B, P]; derivatives and the natural gradient come from autograd."""
        mean, log_variance = lam[:, :-1], lam[:, -1:].clamp_max(self.widest)
        return DiagonalGaussian(mean, log_variance.expand_as(mean))


@OBJECTIVES.register("mine")
@dataclass(eq=False)
class Flattened(AnchoredObjective):
    """−L(λ) + w Σ log cosh(λ − λ0), one value per example."""

    weight: float = 0.1

    def __call__(self, y):
        """Of λ [B, P]; ``base`` is the negative ELBO, ``anchor`` the start λ0."""
        return self.base(y) + self.weight * (y - self.anchor).cosh().log().sum(dim=-1)


@OPTIMIZERS.register("mine")
@dataclass(frozen=True)
class Shrinking(InnerOptimizer):
    """Gradient steps whose length is the smaller, the longer the gradient."""

    lr: float = 0.05
    shrink: float = 0.5
    first_order = True

    def step(self, objective, point, state, create_graph):
        """The next iterate, and the next state: none here."""
        length = point.gradient.square().sum(dim=-1, keepdim=True)
        return point.y - self.lr * point.gradient / (1 + self.shrink * length), state


@BACKENDS.register("mine")
@dataclass(frozen=True)
class Damped(GradientBackend):
    """A part of what unrolling would send through the solve."""

    part: float = 0.5

    def solve(self, loop, objective, init, differentiable):
        """Run the loop, and return λK with a derivative."""
        run = loop.run(objective, init, create_graph=differentiable)
        constant = run.value.detach()
        return replace(run, value=constant + self.part * (run.value - constant))


@ENCODER_LOSSES.register("mine")
def means_apart(batch):
    """How far the means of q_λ0 are from those of q_λK, a mean over the batch."""
    return (batch.initial.mean - batch.final.mean).square().sum(dim=-1).mean()


@OUTER_OPTIMIZERS.register("mine")
def sgd(parameters, *, lr: float, weight_decay: float = 0.0, momentum: float = 0.9):
    """Any ``torch.optim.Optimizer``."""
    return torch.optim.SGD(parameters, lr=lr, weight_decay=weight_decay, momentum=momentum)
