"""The inner and the outer problem of a trained VAE, on images that it has not seen."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.amortised import build_module, train
from benchmarks.images import Images, read_images
from savi.errors import InputError, require_at_least
from savi.experiments.checkpoint import CONFIG_KEY, load_weights, read_checkpoint
from savi.experiments.run import build
from savi.inference.negative_elbo import NegativeELBO
from savi.training.module import SemiAmortizedVAE
from savi.vae.data_fit import data_fit
from savi.vae.families import PointMassFamily
from savi.vae.model import GaussianVAE
from savi.vae.variance import FixedVariance

MINIMA = {
    "seed": 0, "batch": 1, "latent_dim": 1, "hidden": 1, "depth": 0, "train_steps": 1,
}  # fmt: skip


@dataclass(frozen=True)
class TrainedBatch:
    """A trained decoder θ, unseen images, and what the trained encoder makes of them.

    The inner problem is MAP inference, J_b(z) = −log p(x_b|z) + ½‖z‖², started at m. The outer
    loss decodes at z* + s ∘ ε with a fixed ε, so that dz*/dθ carries a signal that the envelope
    theorem does not cancel.

    Attributes:
        model: the decoder, with γ fixed at its trained value.
        x: the images.
        start: m, the encoder's mean, where the inner solves begin.
        scale: s, the encoder's standard deviation.
        noise: ε.
    """

    model: GaussianVAE
    x: Float[Tensor, "B D"]
    start: Float[Tensor, "B d"]
    scale: Float[Tensor, "B d"]
    noise: Float[Tensor, "B d"]

    def objective(self, max_steps: int = 0) -> NegativeELBO:
        """J, made anew as in every training step.

        Args:
            max_steps: how many evaluations are to be expected: with enough of them J is evaluated
                below the decoder's affine head (see :func:`savi.vae.data_fit.data_fit`).
        """
        family = PointMassFamily(self.model.latent_dim)
        fit = data_fit(self.model, self.x, self.start, codes=len(self.x) * max_steps)
        return NegativeELBO(self.model, family, fit, lambda step: self.noise.unsqueeze(0))

    def outer(self, z: Float[Tensor, "B d"]) -> Float[Tensor, ""]:
        """L = (1/B) Σ_b [−log p(x_b | z_b + s_b ∘ ε_b) + ½‖z_b‖²]."""
        sample = torch.addcmul(z, self.scale, self.noise).unsqueeze(0)
        log_likelihood, _ = self.model.likelihood(self.x, self.model.decode(sample))
        return (0.5 * z.square().sum(dim=-1) - log_likelihood[0]).mean()

    @property
    def weights(self) -> list[Tensor]:
        """The decoder's parameters: what the outer loss is differentiated in."""
        return list(self.model.decoder.parameters())

    @property
    def given(self) -> list[Tensor]:
        """Every tensor that is there before the solve."""
        data = [self.x, self.start, self.scale, self.noise]
        return [*self.model.parameters(), *self.model.buffers(), *data]

    def rows(self, n: int) -> TrainedBatch:
        """The first n examples.

        Raises:
            InputError: if there are not so many.
        """
        if not 1 <= n <= len(self.x):
            raise InputError(f"{n} examples of a batch of {len(self.x)}: set batch to {n} or more")
        data = {name: getattr(self, name)[:n] for name in ("x", "start", "scale", "noise")}
        return replace(self, **data)

    def to(self, target: torch.dtype | torch.device) -> TrainedBatch:
        """A copy, the weights too, in another float type or on another device."""
        data = {name: getattr(self, name).to(target) for name in ("x", "start", "scale", "noise")}
        return replace(self, model=copy.deepcopy(self.model).to(target), **data)

    def with_gamma(self, factor: float) -> TrainedBatch:
        """The same with γ multiplied by ``factor``, and decoder weights that are shared."""
        return replace(self, model=_with_fixed_gamma(self.model, factor))


def trained_batch(config: Mapping[str, Any]) -> TrainedBatch:
    """A VAE trained for a while, or read from a checkpoint, and a batch of its validation split.

    Args:
        config: ``seed``; ``dataset``, the name of a data set, ``data_path`` and ``side`` (see
            :func:`read_images`); ``batch``; ``latent_dim``, ``hidden``, ``depth`` and
            ``activation`` of both networks; ``train_steps`` of amortised training; and
            ``checkpoint``: None, or a file that savi-train wrote, which then says all about
            the data and the model but ``data_path``.

    Raises:
        InputError: for unknown names, values out of range, and data or a checkpoint that cannot
            be read.
    """
    for key, least in MINIMA.items():
        require_at_least(key, config[key], least)
    if config["checkpoint"] is not None:
        images, module = _from_checkpoint(config)
        x = images.held_out(config["batch"])
    else:
        images = read_images(config["dataset"], config["data_path"], config["side"], config["seed"])
        x = images.held_out(config["batch"])
        module = build_module(config, images)
        train(module, images, config["train_steps"])
    return _batch(module, x, config["seed"])


@torch.no_grad()
def _batch(module: SemiAmortizedVAE, x: Float[Tensor, "B D"], seed: int) -> TrainedBatch:
    q = module.family.distribution(module.inference.start(x), module.vae)
    noise = torch.randn(q.mean.shape, generator=torch.Generator().manual_seed(seed))
    model = _with_fixed_gamma(module.vae, 1.0)
    return TrainedBatch(model, x, q.mean.clone(), q.variance.sqrt(), noise)


def _with_fixed_gamma(model: GaussianVAE, factor: float) -> GaussianVAE:
    """The same decoder with a γ that nothing moves, whatever kind it was."""
    gamma = model.gamma().detach()
    fixed = FixedVariance(model.gamma.dim, 1.0)
    fixed.gamma = factor * gamma
    return GaussianVAE(model.decoder, fixed, model.latent_dim)


def _from_checkpoint(config: Mapping[str, Any]) -> tuple[Images, SemiAmortizedVAE]:
    if config["side"] is not None:
        raise InputError(
            f"side is {config['side']} with a checkpoint, whose images have the size that it was "
            "trained on: set side to null"
        )
    run = read_checkpoint(config["checkpoint"])[CONFIG_KEY]
    if config["data_path"] is not None:
        run["data"]["path"] = config["data_path"]
    # How many threads there are is the benchmark's own affair.
    run["trainer"]["threads"] = None
    if run["model"]["encoder"] == "none":
        raise InputError(
            f"checkpoint '{config['checkpoint']}' has no encoder, which the inner solves start "
            "from: give one of another experiment, or null"
        )
    with torch.random.fork_rng(devices=[]):
        data, module = build(run)
    load_weights(module, config["checkpoint"])
    return Images(data, None), module.eval()
