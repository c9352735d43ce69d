"""Ranges and names that can be judged before any data are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from savi.errors import InputError
from savi.training.loggers import check_wandb

#: Keys and their least values.
MINIMA = {
    "seed": 0,
    "trainer.max_epochs": 1,
    "trainer.check_val_every_n_epoch": 1,
    "trainer.log_every_n_steps": 1,
    "trainer.limit_train_batches": 1,
    "trainer.limit_val_batches": 1,
    "trainer.threads": 1,
}


def check(config: Mapping[str, Any]) -> None:
    """Refuse what no run could use.

    Model, inference and data check their own settings when they are built, which comes next.

    Raises:
        InputError: for the first setting that is out of range.
    """
    for key, least in MINIMA.items():
        value: Any = config
        for part in key.split("."):
            value = value[part]
        if value is not None and value < least:
            raise InputError(f"{key} is {value}: set it to {least} or more")
    clip = config["trainer"]["gradient_clip_val"]
    if clip is not None and not clip > 0:
        raise InputError(f"trainer.gradient_clip_val is {clip}: set it above 0, or to null")
    if config["logger"]["wandb"]:
        check_wandb(config["logger"]["mode"])
