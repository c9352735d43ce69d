"""An untrained decoder with data drawn from it: an inner problem whose cost can be measured."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from benchmarks.harness import Config, SharedConfig
from savi.errors import InputError
from savi.gradients import BACKENDS
from savi.inference.negative_elbo import NegativeELBO
from savi.inner import Momentum
from savi.inner.anchored import Proximal
from savi.inner.objective import InnerObjective
from savi.settings import check_settings, setting
from savi.types import Observations, Rows, Samples, Scalar
from savi.vae.build import build_vae
from savi.vae.distributions import common_noise
from savi.vae.families import DiagonalGaussianFamily
from savi.vae.model import GaussianVAE


@dataclass
class DecoderConfig(SharedConfig):
    """What the benchmarks on an untrained decoder share."""

    latent_dim: int = setting(2, at_least=1)
    hidden: int = setting(64, at_least=1)
    depth: int = setting(2, at_least=0)
    activation: str = "softplus"
    data_dim: int = setting(128, at_least=1)
    gamma: float = setting(0.1, above=0, below=float("inf"))
    samples: int = setting(2, at_least=1)


@dataclass
class StepsConfig(DecoderConfig):
    """And a batch of data, on which numbers K of inner steps are compared."""

    batch: int = setting(8, at_least=1)
    steps: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class DecoderProblem:
    """The ELBO of a batch of codes, and an outer loss: the same, or with other noise.

    With the noise of J itself, ∂L/∂λ vanishes at the solution, and with it all that a backend adds
    to the direct gradient.
    """

    model: GaussianVAE  # the decoder with its γ, θ
    x: Observations  # data drawn from it
    noise: Samples  # of the inner objective, the same at every step
    #: λ0, the mean and the log variance of every code; where it requires a gradient, the outer loss
    #: is differentiated in it, too.
    start: Rows
    outer_noise: Samples | None = None  # of the outer loss; None for the noise of J
    #: the weight of ½‖λ − λ0‖² in the inner objective, if it has such a term.
    rho: float | None = None

    def objective(self, max_steps: int = 0) -> InnerObjective:
        """J(λ; θ) = −L(θ, λ; x), made anew as in every training step."""
        objective = self._negative_elbo(self.noise)
        return objective if self.rho is None else Proximal(objective, self.start, self.rho)

    def outer(self, value: Rows) -> Scalar:
        """The mean of −L(θ, λ; x) over the batch."""
        noise = self.noise if self.outer_noise is None else self.outer_noise
        return self._negative_elbo(noise)(value).mean()

    @property
    def weights(self) -> list[Tensor]:
        """θ, and λ0 if it requires a gradient."""
        return [p for p in (*self.model.parameters(), self.start) if p.requires_grad]

    @property
    def given(self) -> list[Tensor]:
        """Every tensor that is there before the solve."""
        data = [self.x, self.noise, self.start]
        data += [] if self.outer_noise is None else [self.outer_noise]
        return [*self.model.parameters(), *self.model.buffers(), *data]

    def with_other_noise(self, config: Config) -> DecoderProblem:
        """The problem in double precision, its outer loss with noise of its own, in θ alone."""
        x, noise, start = (t.detach().double() for t in (self.x, self.noise, self.start))
        model = copy.deepcopy(self.model).double()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config["seed"] + 1)
            other = common_noise(config["samples"], noise[0])(0)
        return replace(self, model=model, x=x, noise=noise, start=start, outer_noise=other)

    def _negative_elbo(self, noise: Samples) -> NegativeELBO:
        family = DiagonalGaussianFamily(self.model.latent_dim)
        return NegativeELBO(self.model, family, self.x, lambda step: noise)


def decoder_problem(config: Config, dtype: torch.dtype = torch.float32) -> DecoderProblem:
    """An untrained decoder with a fixed γ, and data x = μ_θ(z) + √γ ε drawn from it.

    Args:
        config: see :class:`DecoderConfig`; ``batch``, the number of examples.
        dtype: the float type.

    Raises:
        InputError: for values out of range and an unknown activation.
    """
    check_settings(DecoderConfig, config)
    gamma = config["gamma"]
    network = {key: config[key] for key in ("latent_dim", "hidden", "depth", "activation")}
    fixed = {"mode": "fixed", "value": gamma, "floor": gamma}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config["seed"])
        values = {"decoder": "mlp", "gamma": fixed, **network}
        model = build_vae(values, (config["data_dim"],), 1.0).to(dtype)
        z = torch.randn(config["batch"], config["latent_dim"], dtype=dtype)
        with torch.no_grad():
            mean = model.decode(z)
            x = mean + model.gamma().sqrt() * torch.randn_like(mean)
        noise = common_noise(config["samples"], z)(0)
        init = 0.5 * torch.randn(config["batch"], 2 * config["latent_dim"], dtype=dtype)
    return DecoderProblem(model, x, noise, init.requires_grad_())


def descent(config: Config) -> Momentum:
    """The inner optimiser that every backend can differentiate."""
    lr, momentum = config["lr"], config["momentum"]
    if not 0 < lr < float("inf"):
        raise InputError(f"lr is {lr}: set it above 0")
    if not 0 < momentum < 1:
        raise InputError(
            f"momentum is {momentum}: set it above 0, which reversible needs, and below 1"
        )
    optimizer = Momentum(lr, momentum)
    for backend in BACKENDS.values():
        try:
            backend().check_optimizer(optimizer)
        except InputError as error:
            raise InputError(f"momentum {momentum}: {error}") from error
    return optimizer
