"""A VAE trained for a while without inner steps: where benchmarks begin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import torch

from benchmarks.images import Images
from savi.config import schema
from savi.training.module import SemiAmortizedVAE

#: The groups of a run's config that make a module.
GROUPS: dict[str, Callable[[], Any]] = {
    "model": schema.ModelConfig,
    "posterior": schema.PosteriorConfig,
    "inner": schema.InnerConfig,
    "gradient": schema.GradientConfig,
    "encoder_loss": lambda: schema.EncoderLossConfig(through=1.0),
    "optimizer": schema.OptimizerConfig,
    "evaluation": schema.EvaluationConfig,
}
NETWORK = ("latent_dim", "hidden", "depth", "activation")


def build_module(
    config: Mapping[str, Any], images: Images, **groups: Mapping[str, Any]
) -> SemiAmortizedVAE:
    """An untrained module; without ``groups`` a plain VAE with a closed-form γ.

    Args:
        config: ``seed``, ``latent_dim``, ``hidden``, ``depth``, ``activation``.
        images: the data.
        groups: what differs from a run's own defaults, for each group of its config.

    Raises:
        InputError: for what no such module can be built from.
    """
    model = {key: config[key] for key in NETWORK}
    changes = {**groups, "model": model | dict(groups.get("model", {}))}
    values = {name: asdict(make()) | dict(changes.get(name, {})) for name, make in GROUPS.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config["seed"])
        return SemiAmortizedVAE(
            data_shape=images.shape,
            data_variance=images.data.variance,
            seed=config["seed"],
            **values,
        )


def train(module: SemiAmortizedVAE, images: Images, steps: int) -> None:
    """So many steps of AdamW on the module's own outer loss; leaves it in evaluation mode."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3, weight_decay=0.0, fused=True)
    module.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(module.seed)
        for _, x in zip(range(steps), images.training_batches(), strict=False):
            step = module.outer_loss(x, 1.0)
            optimizer.zero_grad()
            step.loss.backward()
            module.vae.gamma.observe(step.bound.squared_error)
            optimizer.step()
    optimizer.zero_grad()
    module.eval()
