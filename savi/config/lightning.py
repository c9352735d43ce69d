"""The options of Lightning's Trainer that savi hands on as they are, and those that it cannot."""

from __future__ import annotations

from dataclasses import dataclass, fields

from savi.errors import InputError
from savi.settings import setting


@dataclass
class LightningConfig:
    """Lightning's own options, by their names there; one that is None is left to Lightning."""

    min_epochs: int | None = setting(None, at_least=1)
    max_steps: int | None = setting(None, at_least=1)
    min_steps: int | None = setting(None, at_least=1)
    max_time: str | None = None  # DD:HH:MM:SS
    limit_train_batches: int | float | None = setting(None, above=0)
    limit_val_batches: int | float | None = setting(None, above=0)
    overfit_batches: int | float | None = setting(None, above=0)
    val_check_interval: int | float | None = setting(None, above=0)
    num_sanity_val_steps: int | None = setting(None, at_least=-1)
    accumulate_grad_batches: int | None = setting(None, at_least=1)
    gradient_clip_algorithm: str | None = setting(None, one_of=("norm", "value"))
    benchmark: bool | None = None
    detect_anomaly: bool | None = None
    sync_batchnorm: bool | None = None
    enable_model_summary: bool | None = None
    enable_autolog_hparams: bool | None = None
    profiler: str | None = setting(None, one_of=("simple", "advanced", "pytorch"))


#: Their names.
LIGHTNING = tuple(declared.name for declared in fields(LightningConfig))

#: Those that count batches by a whole number, and give a share of them by another.
SHARES = ("limit_train_batches", "limit_val_batches", "overfit_batches", "val_check_interval")

#: The others of Lightning's, and why a run cannot have them.
REFUSED = {
    "fast_dev_run": "leaves no checkpoint to evaluate: set debug=quick or debug=limit",
    "limit_test_batches": "limits a loop that savi does not use: set data.limit",
    "limit_predict_batches": "limits a loop that savi does not use: set data.limit",
    "enable_checkpointing": "is always on, since the best epoch is evaluated: leave it out",
    "inference_mode": "is always off, since inner solves need gradients: leave it out",
    "use_distributed_sampler": "has nothing to choose, since savi deals out the batches itself: "
    "leave it out",
    "barebones": "leaves no checkpoint to evaluate: set logger=csv and callbacks.figures=false",
    "plugins": "takes objects, which no config holds: set trainer.precision or trainer.strategy",
    "callbacks": "takes objects, which no config holds: set the keys of callbacks",
    "logger": "takes objects, which no config holds: set logger=csv, wandb, tensorboard or mlflow",
    "reload_dataloaders_every_n_epochs": "has nothing to reload, since the data lie in memory: "
    "leave it out",
    "default_root_dir": "is the run folder: set hydra.run.dir",
    "model_registry": "is of Lightning's own cloud, which savi does not use: leave it out",
    "num_nodes": "is always 1, since a run trains on one machine: set trainer.devices",
}


def lightnings_refusal(key: str) -> str | None:
    """Why a run cannot have an option of Lightning's, ``trainer.NAME``, and what to set instead."""
    group, _, name = key.rpartition(".")
    return f"{key} {REFUSED[name]}" if group == "trainer" and name in REFUSED else None


def check_share(name: str, value: float | None) -> None:
    """Refuse a share of batches above all of them.

    Raises:
        InputError: with the two ways to give it.
    """
    if isinstance(value, float) and value > 1:
        raise InputError(
            f"trainer.{name} is {value}: a share is at most 1.0, and a number of batches is whole"
        )
