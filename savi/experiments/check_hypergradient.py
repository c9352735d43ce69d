"""Refusing what hypergradients cannot tune, before any work is done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from savi.errors import InputError, require_at_least, unknown_option
from savi.implicit.policy import OnFailure
from savi.linear import SOLVERS
from savi.training.hypergradient.hyperparameters import HYPERPARAMETERS
from savi.training.hypergradient.tuner import POLICIES
from savi.vae.families import POSTERIORS

_MINIMA = {"every_n_steps": 1, "start_epoch": 0, "max_steps": 1, "examples": 1, "samples": 1}
_ABOVE_ZERO = ("lr", "rtol", "max_stationarity")


def check_hypergradient(config: Mapping[str, Any]) -> None:
    """Refuse a ``hypergradient`` group that a run could not use.

    Args:
        config: a whole run's config; one of a version without hypergradients passes.

    Raises:
        InputError: for the first setting or combination that is wrong.
    """
    settings = config.get("hypergradient")
    if not settings or not settings["tune"]:
        return
    tune = settings["tune"]
    for name in tune:
        if name not in HYPERPARAMETERS:
            raise unknown_option("hypergradient.tune", name, HYPERPARAMETERS)
    if len(set(tune)) < len(tune):
        raise InputError(f"hypergradient.tune is {tune}: name each hyperparameter once")
    _check_settings(settings)
    for choice, reason, instead in _refusals(config, tune):
        raise InputError(f"hypergradient.tune with {choice}{reason}: set {instead}")


def _check_settings(settings: Mapping[str, Any]) -> None:
    for name, least in _MINIMA.items():
        if settings[name] is not None:
            require_at_least(f"hypergradient.{name}", settings[name], least)
    for name in _ABOVE_ZERO:
        if not settings[name] > 0:
            raise InputError(f"hypergradient.{name} is {settings[name]}: set it above 0")
    require_at_least("hypergradient.damping", settings["damping"], 0)
    known = [name for name, solver in SOLVERS.items() if not solver.needs_gauss_newton]
    if settings["solver"] not in known:
        raise unknown_option("hypergradient.solver", settings["solver"], known)
    OnFailure.named(settings["on_failure"], POLICIES, "hypergradient.on_failure")


def _refusals(config: Mapping[str, Any], tune: list[str]) -> Iterator[tuple[str, str, str]]:
    """What is chosen, why it cannot be, and what to set instead."""
    model, inner, trainer = config["model"], config["inner"], config["trainer"]
    mode, solved = model["gamma"]["mode"], inner["max_steps"] > 0
    if "gamma" in tune and mode != "fixed":
        yield (
            f"gamma and model.gamma.mode '{mode}'",
            ", which sets γ itself",
            "model.gamma.mode=fixed",
        )
    if mode == "optimal":
        yield (
            "model.gamma.mode 'optimal'",
            ", a γ that moves with the weights",
            "model.gamma.mode=fixed",
        )
    if "beta" in tune and not model["kl"]["weight"] > 0:
        yield (
            "beta and model.kl.weight 0",
            ", whose logarithm is to move",
            "model.kl.weight above 0",
        )
    if model["kl"]["warmup_steps"]:
        reason = ", during which the training loss changes"
        yield "model.kl.warmup_steps", reason, "model.kl.warmup_steps=0"
    if "weight_decay" in tune and not config["optimizer"]["weight_decay"] > 0:
        reason = ", whose logarithm is to move"
        yield "weight_decay and optimizer.weight_decay 0", reason, "optimizer.weight_decay above 0"
    if "rho" in tune and not (solved and inner["objective"] == "proximal"):
        steps = f" and inner.max_steps {inner['max_steps']}"
        choice = f"rho and inner.objective '{inner['objective']}'{steps}"
        yield choice, ", which has no ρ", "inner=proximal"
    yield from _not_one_function(config, solved)
    if trainer["devices"] > 1:
        yield f"trainer.devices {trainer['devices']}", "", "trainer.devices=1"
    if inner["compile"]:
        yield "inner.compile", ", which keeps the old values", "inner.compile=false"


def _not_one_function(config: Mapping[str, Any], solved: bool) -> Iterator[tuple[str, str, str]]:
    """Trainings that do not go to a minimum of one function, or of one that is smooth in λ."""
    inner, weights = config["inner"], config["encoder_loss"]
    if solved and inner["objective"] != "proximal":
        reason = ", whose λ* sends no gradient to the encoder, or has kinks"
        yield f"inner.objective '{inner['objective']}'", reason, "inner=proximal, or inner=none"
    if solved and config["gradient"]["name"] != "ift":
        reason = ", which does not go to a minimum over exact solutions"
        yield f"gradient '{config['gradient']['name']}'", reason, "gradient=ift"
    if POSTERIORS[config["posterior"]["name"]].is_map:
        reason = ", which is found by MAP inference"
        yield f"posterior '{config['posterior']['name']}'", reason, "posterior=diagonal_gaussian"
    others = [name for name, weight in weights.items() if weight > 0 and name != "through"]
    if others:
        reason = ", which trains the encoder at a constant decoder: no one function is minimised"
        yield f"encoder_loss '{others[0]}'", reason, "encoder_loss=through"
    if config["model"]["encoder"] != "none" and weights["through"] != 1.0:
        reason = ", no gradient of one function"
        yield f"encoder_loss.through {weights['through']}", reason, "encoder_loss=through"
