"""From one method to another in the middle of a training: the model goes on with the weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from benchmarks.images import Images
from benchmarks.trained import experiment_module
from savi.training.module import SemiAmortizedVAE

#: The layer of the encoder that gives λ0.
HEAD = "inference.encoder.head."


def successor(
    module: SemiAmortizedVAE, overrides: Sequence[str], images: Images
) -> SemiAmortizedVAE:
    """The module of other words, with the weights that another one has learned.

    Its family may have fewer parameters: in all of them the mean comes first, so that the encoder
    goes on saying what it has said of it.
    """
    words = [f"model.{key}={module.hparams['model'][key]}" for key in ("latent_dim", "hidden")]
    with torch.random.fork_rng(devices=[]):
        following = experiment_module([*overrides, *words], images, module.seed)
    count = following.family.num_params
    weights = {
        name: value[:count] if name.startswith(HEAD) else value
        for name, value in module.state_dict().items()
    }
    following.load_state_dict(weights)
    return following.train(module.training)
