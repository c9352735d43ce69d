"""Everything that can be judged of a config before any data are read, in one pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from savi.config.schema import Config
from savi.errors import Conflict, InputError, refuse, within
from savi.experiments.check_hypergradient import check_hypergradient
from savi.experiments.loggers import check_wandb
from savi.inference.encoder_losses import EncoderObjective
from savi.inference.gradient_check import check_reference
from savi.inference.refinement import Refinement
from savi.inference.semi_amortized import SemiAmortizedInference
from savi.report.metrics import describe
from savi.settings import check_settings
from savi.training.warm_start import WarmStarts
from savi.vae.families import POSTERIORS
from savi.vae.likelihoods import LIKELIHOODS


def check(config: Mapping[str, Any]) -> None:
    """Refuse what no run could use: bounds first, which stand beside the keys, then combinations.

    Those of the method stand beside its classes, which are built here without their networks.

    Args:
        config: a whole run's config; one of an earlier version may lack keys.

    Raises:
        InputError: for the first setting or combination that is wrong.
    """
    tuned = config.get("hypergradient", {}).get("tune", [])
    bounded = {key: value for key, value in config.items() if tuned or key != "hypergradient"}
    check_settings(Config, bounded)
    check_objective(config["optimized_metric"])
    _check_trainer(config)
    if tuned:
        check_hypergradient(config, tuned)
    _check_method(config)
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


def _check_method(config: Mapping[str, Any]) -> None:
    """Inner problem, optimiser, backend, encoder losses, warm starts and the gradient check."""
    model, callbacks = config["model"], config["callbacks"]
    check_likelihood(model, config["data"])
    with within("posterior"):
        family = POSTERIORS.chosen(config["posterior"], model["latent_dim"])
    # That there is one is all that matters here.
    encoder = None if model["encoder"] == "none" else nn.Identity()
    inference = SemiAmortizedInference(encoder, family, config["inner"], config["gradient"])
    EncoderObjective(config["encoder_loss"], inference)
    WarmStarts.build(config["inner"], inference)
    with within("inner"):
        Refinement.of(config["inner"], inference)
    if callbacks["gradient_check_every_n_steps"] is not None:
        check_reference(callbacks["gradient_check_reference"], inference)


def check_likelihood(model: Mapping[str, Any], data: Mapping[str, Any]) -> None:
    """Refuse a γ that the likelihood has not, and data that are made what it is not for.

    Raises:
        InputError: for the first setting.
    """
    with within("model"):
        likelihood = LIKELIHOODS[model.get("likelihood", "gaussian")]
    likelihood.check(model)
    if likelihood.support == "real":
        return
    binary, scale = likelihood.support == "binary", data.get("scale", "none")
    kind = "which is for ones and zeros" if binary else "which is for numbers in [0, 1]"
    conflicts = [
        Conflict(binary and data["dequantise"], "data.dequantise", "data.dequantise=false", kind),
        Conflict(data["centre"], "data.centre", "data.centre=false", kind),
        Conflict(scale != "none", f"data.scale '{scale}'", "data.scale=none", kind),
    ]
    refuse(f"model.likelihood '{likelihood.name}'", conflicts)


def _check_trainer(config: Mapping[str, Any]) -> None:
    trainer = config["trainer"]
    every, epochs = trainer["check_val_every_n_epoch"], trainer["max_epochs"]
    if every > epochs:
        raise InputError(
            f"trainer.check_val_every_n_epoch {every} is above trainer.max_epochs {epochs}, so "
            "that no epoch would be validated: lower it"
        )
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
