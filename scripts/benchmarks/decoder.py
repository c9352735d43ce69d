"""An untrained decoder with data drawn from it: an inner problem whose cost can be measured."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from savi.errors import InputError, require_at_least
from savi.gradients import BACKENDS
from savi.inference.negative_elbo import NegativeELBO
from savi.inner import Momentum
from savi.vae.build import build_vae
from savi.vae.families import DiagonalGaussianFamily
from savi.vae.model import GaussianVAE
from savi.vae.noise import common_noise

MINIMA = {
    "seed": 0, "batch": 1, "latent_dim": 1, "data_dim": 1, "hidden": 1, "depth": 0, "samples": 1,
}  # fmt: skip


@dataclass(frozen=True)
class DecoderBatch:
    """A batch of data drawn from a decoder, and where the inference of its codes starts.

    Attributes:
        model: the decoder with its γ, θ.
        x: the data.
        noise: of the inner objective, the same at every step.
        init: λ0, the mean and the log variance of every code; requires a gradient.
    """

    model: GaussianVAE
    x: Float[Tensor, "B D"]
    noise: Float[Tensor, "S B d"]
    init: Float[Tensor, "B P"]

    def objective(self) -> NegativeELBO:
        """J(λ; θ) = −L(θ, λ; x), made anew as in every training step."""
        family = DiagonalGaussianFamily(self.model.latent_dim)
        return NegativeELBO(self.model, family, self.x, lambda step: self.noise)

    @property
    def leaves(self) -> list[Tensor]:
        """θ and λ0: what an outer loss is differentiated in."""
        return [*(p for p in self.model.parameters() if p.requires_grad), self.init]

    @property
    def given(self) -> list[Tensor]:
        """Every tensor that is there before the solve."""
        return [*self.model.parameters(), *self.model.buffers(), self.x, self.noise, self.init]

    def to(self, dtype: torch.dtype) -> DecoderBatch:
        """A copy, the weights too, in another float type."""
        init = self.init.detach().to(dtype).requires_grad_()
        return replace(
            self,
            model=copy.deepcopy(self.model).to(dtype),
            x=self.x.to(dtype),
            noise=self.noise.to(dtype),
            init=init,
        )


def decoder_batch(config: Mapping[str, Any]) -> DecoderBatch:
    """An untrained decoder in float32, and data x = μ_θ(z) + √γ ε drawn from it.

    Args:
        config: ``seed``, ``batch``, ``latent_dim``, ``hidden``, ``depth``, ``activation``,
            ``data_dim``, ``gamma``, ``samples``.

    Raises:
        InputError: for values out of range and an unknown activation.
    """
    for key, least in MINIMA.items():
        require_at_least(key, config[key], least)
    gamma = config["gamma"]
    if not 0 < gamma < float("inf"):
        raise InputError(f"gamma is {gamma}: set it above 0")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config["seed"])
        model = untrained_decoder(config)
        z = torch.randn(config["batch"], config["latent_dim"])
        x = drawn(model, z)
        noise = common_noise(config["samples"], z)(0)
        init = 0.5 * torch.randn(config["batch"], 2 * config["latent_dim"])
    return DecoderBatch(model, x, noise, init.requires_grad_())


def untrained_decoder(config: Mapping[str, Any]) -> GaussianVAE:
    """A multilayer perceptron with a fixed γ.

    Args:
        config: ``latent_dim``, ``hidden``, ``depth``, ``activation``, ``data_dim``, ``gamma``.
    """
    gamma = config["gamma"]
    return build_vae(
        {
            "decoder": "mlp",
            "gamma": {"mode": "fixed", "value": gamma, "floor": gamma},
            **{key: config[key] for key in ("latent_dim", "hidden", "depth", "activation")},
        },
        (config["data_dim"],),
        1.0,
    )


@torch.no_grad()
def drawn(model: GaussianVAE, z: Float[Tensor, "B d"]) -> Float[Tensor, "B D"]:
    """Data x = μ_θ(z) + √γ ε."""
    mean = model.decode(z)
    return mean + model.gamma().sqrt() * torch.randn_like(mean)


def descent(config: Mapping[str, Any]) -> Momentum:
    """The inner optimiser that every backend can differentiate.

    Args:
        config: ``lr`` and ``momentum``.

    Raises:
        InputError: for values out of range.
    """
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
