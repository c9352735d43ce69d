"""What can be refused of a config by its values alone, before PyTorch is imported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from savi.config.catalogue import choices
from savi.config.lightning import SHARES, check_share
from savi.config.schema import Config, EvaluateConfig, EvaluationConfig
from savi.errors import Conflict, InputError, refuse, unknown_option
from savi.experiments.check_loggers import check_trackers, check_wandb
from savi.report.metrics import describe
from savi.settings import check_settings

#: Of a checkpoint's path.
EXAMPLE = "such as runs/.../checkpoints/best.ckpt"


def check_values(config: Mapping[str, Any]) -> None:
    """Refuse values out of bounds, unknown names, and what the trainer could not do.

    Args:
        config: a whole run's config; one of an earlier version may lack keys.

    Raises:
        InputError: for the first of them.
    """
    tuned = config.get("hypergradient", {}).get("tune", [])
    bounded = {key: value for key, value in config.items() if tuned or key != "hypergradient"}
    check_settings(Config, bounded)
    check_objective(config["optimized_metric"])
    _check_cycle(config["model"]["kl"])
    _check_trainer(config)
    _check_names(config)
    check_trackers(config["logger"])
    if config["logger"]["wandb"]:
        check_wandb(config["logger"]["mode"], config["logger"]["project"])


def check_objective(name: str) -> None:
    """Refuse an ``optimized_metric`` that no run measures.

    Raises:
        InputError: if its name is unknown.
    """
    if describe(name) is None:
        raise InputError(
            f"unknown optimized_metric '{name}': choose a name in the metrics.json of a run, such "
            "as val/elbo"
        )


def _check_names(config: Mapping[str, Any]) -> None:
    """Refuse the names of no variance or activation, which no other check looks up."""
    model = config["model"]
    choices("model.gamma.mode")[model["gamma"]["mode"]]
    networks = ((kind, model[kind]) for kind in ("decoder", "encoder") if model[kind] != "none")
    if any("activation" in choices(kind).options(name) for kind, name in networks):
        choices("activation")[model["activation"]]


def _check_cycle(kl: Mapping[str, Any]) -> None:
    """Refuse cycles of β in which it does not rise, or not to its weight."""
    cycle, warmup = kl.get("cycle_steps"), kl["warmup_steps"]
    if cycle is not None and not 0 < warmup <= cycle:
        raise InputError(
            f"model.kl.cycle_steps {cycle} with model.kl.warmup_steps {warmup}: in each cycle β "
            f"rises for so many steps, so set model.kl.warmup_steps between 1 and {cycle}, such as "
            f"{max(1, cycle // 2)}, or model.kl.cycle_steps=null"
        )


def _check_trainer(config: Mapping[str, Any]) -> None:
    trainer = config["trainer"]
    every, epochs = trainer["check_val_every_n_epoch"], trainer["max_epochs"]
    if every > epochs:
        raise InputError(
            f"trainer.check_val_every_n_epoch {every} is above trainer.max_epochs {epochs}, so "
            "that no epoch would be validated: lower it"
        )
    for name in SHARES:
        check_share(name, trainer.get(name))
    _check_vary(trainer["vary"], trainer["replicas"])
    devices = trainer["devices"]
    if devices == 1:
        return
    size = config["data"]["batch_size"]
    many, strategy = f"trainer.devices {devices}", trainer["strategy"]
    refuse(many, [Conflict(strategy != "ddp", f"trainer.strategy '{strategy}'", "trainer=ddp")])
    if size % devices:
        raise InputError(
            f"{many} cannot share batches of {size} evenly: set data.batch_size to a multiple"
        )
    alone, bits = "which needs one device", config["model"]["kl"]["free_bits"]
    warm = config["inner"]["warm_start"]
    conflicts = [
        Conflict(warm, "inner.warm_start", "inner.warm_start=false", alone),
        Conflict(bits > 0, "model.kl.free_bits", "model.kl.free_bits=0", alone),
    ]
    refuse(many, conflicts, otherwise="train on one")


def check_job(config: Mapping[str, Any]) -> None:
    """Refuse settings that the jobs of a sweep cannot have.

    Raises:
        InputError: for the first of them.
    """
    trainer = config["trainer"]
    if config.get("resume") not in (None, "auto"):
        raise InputError(
            f"resume={config['resume']} in a sweep: leave it out, since jobs that are not finished "
            "go on by themselves"
        )
    if trainer["devices"] > 1:
        raise InputError(
            "trainer.devices above 1 in a sweep: the processes of a job would each start the whole "
            "sweep, so leave out -m and run the jobs one after another, or set trainer.devices=1"
        )
    if trainer["replicas"] > 1:
        raise InputError(
            "trainer.replicas above 1 in a sweep: leave out -m and give the values by "
            "trainer.vary, or sweep over seed"
        )


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


def check_evaluation(options: Mapping[str, Any]) -> None:
    """Refuse options of an evaluation, which are those of ``EvaluateConfig``, that cannot be.

    Raises:
        InputError: for the first of them.
    """
    check_settings(EvaluateConfig, options)
    check_settings(EvaluationConfig, options)
    codes = options.get("codes")
    if codes is not None and Path(codes).suffix != ".npz":
        raise InputError(f"codes '{codes}' is no .npz file: give it a name that ends in .npz")
    name, path = options["ood"], options["ood_path"]
    if name is None and path is not None:
        raise InputError(f"ood_path '{path}' without ood: set ood to a data set, such as arrays")
    if name is not None and name not in choices("data set"):
        raise unknown_option("ood", name, choices("data set"))
    if name == "arrays" and path is None:
        raise InputError("ood 'arrays' without ood_path: set it to an .npy or .npz file")
    require_checkpoint(options["checkpoint"])


def require_checkpoint(path: str | Path) -> None:
    """Refuse a checkpoint that is no file.

    Raises:
        InputError: if it is none.
    """
    file = Path(path)
    if file.is_dir():
        raise InputError(f"checkpoint '{path}' is a folder: give the .ckpt file in it")
    if not file.is_file():
        raise InputError(
            f"checkpoint '{path}' does not exist: give the path of a .ckpt file, {EXAMPLE}"
        )
