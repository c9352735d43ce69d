"""Lightning's Trainer for a run: its own options, and those that inner gradients need."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.plugins.environments import SLURMEnvironment
from pytorch_lightning.profilers import AdvancedProfiler, PyTorchProfiler, SimpleProfiler
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from savi.config.lightning import LIGHTNING
from savi.data import TensorDataModule
from savi.errors import InputError
from savi.experiments.checkpoint import WholeCheckpoints

#: Keys of the group that are savi's own.
_OWN = frozenset({"threads", "max_bad_steps", "enable_progress_bar", "replicas", "vary"})

#: Where Lightning's default is not what a run needs.
_DEFAULTS = {"enable_model_summary": False, "num_sanity_val_steps": 0}

PROFILERS = {"simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": PyTorchProfiler}


def build_trainer(
    config: Mapping[str, Any],
    data: TensorDataModule,
    callbacks: list[Callback],
    progress_bar: bool,
    folder: Path,
) -> pl.Trainer:
    """The Trainer of a run in a folder, by the ``trainer`` group of its config.

    Raises:
        InputError: for what Lightning does not accept, such as a GPU that is not there.
    """
    given = {key: value for key, value in config.items() if key not in _OWN}
    unset = [key for key in LIGHTNING if given.get(key) is None]
    options = _DEFAULTS | {key: value for key, value in given.items() if key not in unset}
    for name, split in (
        *(("limit_train_batches", "train"), ("limit_val_batches", "val")),
        *(("overfit_batches", "train"), ("overfit_batches", "val")),
    ):
        share, whole = options.get(name), _count(data, split)
        if isinstance(share, float) and share * whole < 1:
            raise InputError(
                f"trainer.{name} {share} of the {whole} batches of the {split} split is less than "
                "one: raise it, or give a number of batches"
            )
    batches = _batches(config, data)
    options["log_every_n_steps"] = min(config["log_every_n_steps"], batches)
    if isinstance(every := options.get("val_check_interval"), int) and every > batches:
        raise InputError(
            f"trainer.val_check_interval {every} is above the {batches} batches of an epoch: lower "
            "it, or set trainer.check_val_every_n_epoch instead"
        )
    if (profiler := options.get("profiler")) is not None:
        # Lightning would print what it has measured.
        options["profiler"] = PROFILERS[profiler](dirpath=folder, filename="profile")
    # A job that has run out of time is the sweep's to start again, not Lightning's.
    slurm = SLURMEnvironment(auto_requeue=False) if SLURMEnvironment.detect() else None
    try:
        return pl.Trainer(
            **options,
            plugins=[plugin for plugin in (WholeCheckpoints(), slurm) if plugin is not None],
            logger=False,
            callbacks=callbacks,
            enable_progress_bar=progress_bar,
            # Validation and test solve inner problems, which inference mode makes impossible.
            inference_mode=False,
        )
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise InputError(f"trainer: {' '.join(str(error).split())}") from error


def _count(data: TensorDataModule, split: str) -> int:
    """How many batches a split has."""
    return -(-len(data.split(split)) // data.batch_size)


def _batches(config: Mapping[str, Any], data: TensorDataModule) -> int:
    """How many batches an epoch of training has."""
    whole = _count(data, "train")
    limits = [config.get(key) or 1.0 for key in ("limit_train_batches", "overfit_batches")]
    shares = [n / whole if isinstance(n, int) else n for n in limits]
    return max(1, int(whole * min(1.0, *shares)))
