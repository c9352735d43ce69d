"""Ranges and names that can be judged before any data are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from savi.errors import InputError, require_at_least, unknown_option
from savi.experiments.check_hypergradient import check_hypergradient
from savi.experiments.loggers import check_wandb
from savi.report.metrics import describe

#: The largest seed that NumPy takes.
MAX_SEED = 2**32 - 1

#: What the inner solves support: they run in float32 under the mixed ones.
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
ACCELERATORS = ("auto", "cpu", "gpu", "mps")
STRATEGIES = ("auto", "ddp")

#: Keys and their least values.
MINIMA = {
    "seed": 0,
    "trainer.max_epochs": 1,
    "trainer.check_val_every_n_epoch": 1,
    "trainer.log_every_n_steps": 1,
    "trainer.limit_train_batches": 1,
    "trainer.limit_val_batches": 1,
    "trainer.threads": 1,
    "trainer.devices": 1,
    "trainer.replicas": 1,
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
        if value is not None:
            require_at_least(key, value, least)
    if config["seed"] > MAX_SEED:
        raise InputError(f"seed is {config['seed']}: set it to at most {MAX_SEED}")
    if describe(config["optimized_metric"]) is None:
        raise InputError(
            f"unknown optimized_metric '{config['optimized_metric']}': choose a name in the "
            "metrics.json of a run, such as val/elbo"
        )
    trainer = config["trainer"]
    for key, known in (
        ("precision", PRECISIONS),
        ("accelerator", ACCELERATORS),
        ("strategy", STRATEGIES),
    ):
        if trainer[key] not in known:
            raise unknown_option(f"trainer.{key}", trainer[key], known)
    _check_vary(trainer["vary"], trainer["replicas"])
    check_hypergradient(config)
    if trainer["devices"] > 1:
        _check_devices(config, trainer["devices"])
    if trainer["check_val_every_n_epoch"] > trainer["max_epochs"]:
        raise InputError(
            f"trainer.check_val_every_n_epoch {trainer['check_val_every_n_epoch']} is above "
            f"trainer.max_epochs {trainer['max_epochs']}, so that no epoch would be validated: "
            "lower it"
        )
    clip = trainer["gradient_clip_val"]
    if clip is not None and not clip > 0:
        raise InputError(f"trainer.gradient_clip_val is {clip}: set it above 0, or to null")
    if config["logger"]["wandb"]:
        check_wandb(config["logger"]["mode"], config["logger"]["project"])


def _check_vary(vary: Any, replicas: int) -> None:
    """Refuse what is no mapping from keys to lists of numbers, and values for no replica."""
    if vary is None:
        return
    if not isinstance(vary, Mapping) or not all(_are_numbers(values) for values in vary.values()):
        raise InputError(
            f"trainer.vary is {vary}: give a list of numbers for each key, such as "
            "'trainer.vary={inner.rho: [0.1, 1, 10]}'"
        )
    if vary and replicas == 1:
        count = len(next(iter(vary.values())))
        raise InputError(f"trainer.vary without replicas: set trainer.replicas={count}")


def _are_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in values
    )


def _check_devices(config: Mapping[str, Any], devices: int) -> None:
    """Refuse what several devices could not do as one device does it."""
    many = f"trainer.devices {devices}"
    if config["trainer"]["strategy"] != "ddp":
        raise InputError(f"{many} with trainer.strategy 'auto': set trainer=ddp")
    if config["data"]["batch_size"] % devices:
        raise InputError(
            f"{many} cannot share batches of {config['data']['batch_size']} evenly: set "
            "data.batch_size to a multiple"
        )
    for wrong, name, advice in (
        (config["inner"]["warm_start"], "inner.warm_start", "inner.warm_start=false"),
        (config["model"]["kl"]["free_bits"] > 0, "model.kl.free_bits", "model.kl.free_bits=0"),
    ):
        if wrong:
            raise InputError(
                f"{many} with {name}, which needs one device: set {advice}, or train on one"
            )
