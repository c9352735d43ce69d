"""A config's data, and a fresh model for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch

from savi.config.options import check_options
from savi.data import TensorDataModule
from savi.data.suitability import require_support
from savi.errors import InputError
from savi.experiments.check import check
from savi.plugins import import_modules
from savi.training.module import SemiAmortizedVAE
from savi.vae.likelihoods import LIKELIHOODS
from savi.vae.networks import DECODERS

#: The groups of a config that describe a model and its training.
GROUPS = (
    "model", "posterior", "inner", "gradient", "encoder_loss", "optimizer", "evaluation",
    "hypergradient",
)  # fmt: skip


def build(
    config: Mapping[str, Any], preprocessing: dict[str, Any] | None = None
) -> tuple[TensorDataModule, SemiAmortizedVAE]:
    """The data, read and checked, and a fresh model for them.

    Args:
        config: a whole run's config.
        preprocessing: that of a checkpoint; by default it is fitted to the data.

    Raises:
        InputError: for whatever is wrong with the config or the data.
    """
    import_modules(config.get("imports", ()))
    check_options(config)
    check(config)
    if config["trainer"]["threads"] is not None:
        torch.set_num_threads(config["trainer"]["threads"])
    pl.seed_everything(config["seed"], verbose=False)
    data, dtype = TensorDataModule(**config["data"]), precision_of(config)
    data.dtype, data.labelled = dtype, config["model"]["condition"] == "labels"
    if preprocessing is not None:
        data.load_state_dict(preprocessing)
    data.setup()
    gamma, likelihood = config["model"]["gamma"], config["model"]["likelihood"]
    kind = LIKELIHOODS[likelihood]
    require_support(data, likelihood, kind.support, kind.ordinal)
    decoder = config["model"]["decoder"]
    if data.padded and not getattr(DECODERS[decoder], "autoregressive", False):
        raise InputError(
            f"model.decoder '{decoder}' with data '{data.name}', whose sequences have different "
            "lengths: set model=lstm"
        )
    if likelihood == "gaussian" and gamma["value"] is None and not data.variance > gamma["floor"]:
        scale = "set data.scale=global" if data.variance > 0 else "check data.path and data.limit"
        raise InputError(
            f"the training data of '{data.name}' have a variance of {data.variance:.3g}, "
            f"where γ would start: {scale}, or set model.gamma.value"
        )
    groups = {group: config[group] for group in GROUPS}
    module = SemiAmortizedVAE(
        data_shape=data.shape,
        data_variance=data.variance,
        data_levels=data.levels,
        data_classes=data.classes if data.labelled else None,
        seed=config["seed"],
        **groups,
    )
    module.preprocessing = data.preprocessing
    return data, module.to(dtype)


def precision_of(config: Mapping[str, Any]) -> torch.dtype:
    """The type of the weights and of the data."""
    return torch.float64 if config["trainer"]["precision"] == "64-true" else torch.float32
