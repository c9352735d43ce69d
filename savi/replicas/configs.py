"""The runs that ``trainer.replicas`` stands for, and what they cannot do together."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any, NamedTuple

import torch

from savi.config.lightning import LIGHTNING
from savi.errors import Conflict, InputError, refuse, unknown_option
from savi.experiments.resume import AUTO
from savi.inference.outer_loss import ELBO
from savi.inference.refinement import ALWAYS
from savi.runs.record import Origin
from savi.settings import key_of
from savi.sweeps.jobs import job_folder

#: The keys in which the replicas of a seed may differ.
VARIABLE = (
    "inner.rho", "inner.radius", "model.gamma.value", "optimizer.lr", "optimizer.weight_decay",
)  # fmt: skip


#: Options of Lightning's that the joint training has too.
OWN = ("limit_train_batches", "limit_val_batches")


class Plan(NamedTuple):
    """One of the runs: the config, the folder and the origin of the equivalent separate run."""

    config: dict[str, Any]
    folder: Path
    origin: Origin


def plans(config: Mapping[str, Any], folder: Path, origin: Origin) -> list[Plan]:
    """R runs of the seeds ``seed``, ``seed`` + 1, …; with ``vary``, of one seed.

    ``data.seed`` goes along with the seed where it is the same.

    Args:
        config: a whole run's config with ``trainer.replicas`` and ``trainer.vary``.
        folder: where their folders lie, ``seed-0`` or ``inner.rho-0.1``.
        origin: how all of them were started.

    Raises:
        InputError: for what replicas cannot do, keys that cannot vary, and lists that do not have
            a value for each replica.
    """
    _refuse(config)
    replicas, vary = config["trainer"]["replicas"], config["trainer"]["vary"] or {}
    for key, values in vary.items():
        if key not in VARIABLE:
            raise unknown_option("trainer.vary", key, VARIABLE)
        if len(values) != replicas:
            raise InputError(
                f"trainer.vary gives {key} {len(values)} values for {replicas} replicas: give as "
                f"many, or set trainer.replicas={len(values)}"
            )
    found = [_plan(config, folder, origin, number) for number in range(replicas)]
    if len({plan.folder for plan in found}) < replicas:
        raise InputError("trainer.vary has replicas with the same values: make them differ")
    return found


def _plan(config: Mapping[str, Any], folder: Path, origin: Origin, number: int) -> Plan:
    own = deepcopy(dict(config))
    own["trainer"] |= {"replicas": 1, "vary": None}
    vary = config["trainer"]["vary"] or {}
    overrides = {key: values[number] for key, values in vary.items()}
    if not vary:
        overrides = {"seed": config["seed"] + number}
        if config["data"]["seed"] == config["seed"]:
            own["data"]["seed"] = overrides["seed"]
    for key, value in overrides.items():
        *groups, name = key.split(".")
        reduce(getitem, groups, own)[name] = value
    named = [f"{key}={value}" for key, value in overrides.items()]
    command = _alone(origin.command, named) if origin.command else ""
    setting = "_".join(filter(None, [origin.setting, job_folder(named) if vary else None]))
    name = job_folder(named)
    sweep = origin.sweep or folder.name
    return Plan(own, folder / name, Origin(command, sweep, setting or folder.name, origin.again))


def _alone(command: str, overrides: Sequence[str]) -> str:
    """The command of all runs as that of one of them."""
    replaced = {"trainer.replicas", "trainer.vary", *map(key_of, overrides)}
    kept = [part for part in shlex.split(command) if key_of(part) not in replaced]
    return shlex.join([*kept, *overrides])


def _refuse(config: Mapping[str, Any]) -> None:
    trainer, callbacks = config["trainer"], config["callbacks"]
    on_gpu = trainer["accelerator"] not in ("auto", "cpu") or (
        trainer["accelerator"] == "auto" and torch.cuda.is_available()
    )
    precision, tuned = trainer["precision"], bool(config["hypergradient"]["tune"])
    outer, bits = config["optimizer"]["name"], config["model"]["kl"]["free_bits"]
    raises = config["gradient"].get("on_failure") == "raise"
    optional = (
        *("aggressive_encoder_steps", "early_stopping_patience"),
        *("gradient_check_every_n_steps", "media_every_n_epochs"),
    )
    resume = config.get("resume")
    flow = config["posterior"]["name"] == "flow"
    likelihood, prior, objective = (
        config["model"][key] for key in ("likelihood", "prior", "objective")
    )
    conflicts = [
        Conflict(
            likelihood != "gaussian",
            f"model.likelihood '{likelihood}'", "model.likelihood=gaussian",
        ),
        Conflict(prior != "standard", f"model.prior '{prior}'", "model.prior=standard"),
        Conflict(objective != ELBO, f"model.objective '{objective}'", f"model.objective={ELBO}"),
        Conflict(flow, "posterior 'flow'", "posterior=diagonal_gaussian"),
        Conflict(
            config["model"]["condition"] != "none",
            "model.condition 'labels'", "model.condition=none",
        ),
        Conflict(resume not in (None, AUTO), f"resume '{resume}'", f"resume={AUTO}"),
        Conflict(on_gpu, "a GPU", "trainer.accelerator=cpu"),
        Conflict(trainer["devices"] > 1, "several devices", "trainer.devices=1"),
        Conflict(precision.endswith("mixed"), "mixed precision", "trainer.precision=32-true"),
        Conflict(config["inner"]["compile"], "inner.compile", "inner.compile=false"),
        Conflict(config["inner"]["adapt_lr"], "inner.adapt_lr", "inner.adapt_lr=false"),
        Conflict(
            config["inner"]["when"] != ALWAYS,
            f"inner.when '{config['inner']['when']}'", f"inner.when={ALWAYS}",
        ),
        Conflict(outer != "adam", f"optimizer '{outer}'", "optimizer=adam"),
        Conflict(tuned, "hypergradient.tune", "hypergradient.tune=[]"),
        Conflict(bits > 0, "model.kl.free_bits", "model.kl.free_bits=0"),
        Conflict(
            raises, "gradient.on_failure 'raise'", "gradient.on_failure=warn",
            "by which one of them would stop all",
        ),
        *(
            Conflict(
                trainer.get(name) is not None, f"trainer.{name}", f"trainer.{name}=null",
                "which is Lightning's",
            )
            for name in LIGHTNING if name not in OWN
        ),
        *(
            Conflict(
                isinstance(trainer.get(name), float), f"a share as trainer.{name}",
                "it to a number of batches",
            )
            for name in OWN
        ),
        *(
            Conflict(callbacks[name] is not None, f"callbacks.{name}", f"callbacks.{name}=null")
            for name in optional
        ),
    ]  # fmt: skip
    refuse(f"trainer.replicas {trainer['replicas']}", conflicts, otherwise="trainer.replicas=1")
