"""Checkpoints that carry their whole config, and are read back in safe mode."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from savi.data import TensorDataModule
from savi.errors import InputError

CONFIG_KEY = "savi_config"
#: Where Lightning keeps the state of the data module, which is the preprocessing.
DATA_KEY = TensorDataModule.__qualname__


class StoreConfig(Callback):
    """Writes the run's config, as plain values, into every checkpoint."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = dict(config)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the config to what Lightning saves."""
        checkpoint[CONFIG_KEY] = self.config


def save_weights(
    path: Path,
    module: pl.LightningModule,
    data: TensorDataModule,
    config: Mapping[str, Any],
    epoch: int,
    step: int,
) -> None:
    """Write a checkpoint for evaluation: one of Lightning's, without the state of a training."""
    # Copies: of a view, the whole tensor would be saved.
    contents: dict[str, Any] = {
        "epoch": epoch,
        "global_step": step,
        "pytorch-lightning_version": pl.__version__,
        "state_dict": {name: value.clone() for name, value in module.state_dict().items()},
        module.CHECKPOINT_HYPER_PARAMS_KEY: dict(module.hparams),
        CONFIG_KEY: config,
        DATA_KEY: data.state_dict(),
    }
    path.parent.mkdir(exist_ok=True)
    torch.save(contents, path)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The contents of a savi checkpoint, read without executing anything in it.

    Raises:
        InputError: if there is no file, or it is not a savi checkpoint.
    """
    file = Path(path)
    example = "such as runs/.../checkpoints/best.ckpt"
    if file.is_dir():
        raise InputError(f"checkpoint '{path}' is a folder: give the .ckpt file in it")
    if not file.is_file():
        raise InputError(
            f"checkpoint '{path}' does not exist: give the path of a .ckpt file, {example}"
        )
    with warnings.catch_warnings():
        # About pickle protocols, where the answer is that this is no checkpoint.
        warnings.simplefilter("ignore", UserWarning)
        try:
            checkpoint = torch.load(file, map_location="cpu", weights_only=True)
        except Exception:  # The safe reader fails on foreign bytes in any way it likes.
            checkpoint = None
    if not isinstance(checkpoint, dict) or not {CONFIG_KEY, "state_dict"} <= checkpoint.keys():
        raise InputError(
            f"'{path}' is not a checkpoint of savi: give one that savi-train wrote, {example}"
        )
    return checkpoint


def load_weights(module: pl.LightningModule, path: str | Path) -> None:
    """Put a checkpoint's weights into a module of the same config.

    Raises:
        InputError: if they do not fit.
    """
    try:
        module.load_state_dict(read_checkpoint(path)["state_dict"])
    except RuntimeError as error:
        problem = " ".join(str(error).split())
        raise InputError(f"the weights in '{path}' do not fit its config: {problem}") from error
