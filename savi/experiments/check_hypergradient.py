"""What hypergradients cannot tune."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from savi.errors import Conflict, InputError, refuse, unknown_option
from savi.inference.refinement import ALWAYS
from savi.training.hypergradient.hyperparameters import HYPERPARAMETERS
from savi.vae.families import POSTERIORS


def check_hypergradient(config: Mapping[str, Any], tune: Sequence[str]) -> None:
    """Refuse what a run could not tune.

    Args:
        config: a whole run's config, whose settings are within their bounds.
        tune: the names of the hyperparameters.

    Raises:
        InputError: for the first name or combination that is wrong.
    """
    for name in tune:
        if name not in HYPERPARAMETERS:
            raise unknown_option("hypergradient.tune", name, HYPERPARAMETERS)
    if len(set(tune)) < len(tune):
        raise InputError(f"hypergradient.tune is {tune}: name each hyperparameter once")
    refuse("hypergradient.tune", [*_unmoved(config, tune), *_not_one_function(config)])


def _unmoved(config: Mapping[str, Any], tune: Sequence[str]) -> list[Conflict]:
    """Hyperparameters that are not there, or are moved by something else."""
    kl, inner, trainer = config["model"]["kl"], config["inner"], config["trainer"]
    devices = trainer["devices"]
    mode, objective = config["model"]["gamma"]["mode"], inner["objective"]
    steps = inner["max_steps"]
    decay, fixed = config["optimizer"]["weight_decay"], "model.gamma.mode=fixed"
    logarithm = "whose logarithm is to move"
    gaussian = config["model"].get("likelihood", "gaussian") == "gaussian"
    return [
        Conflict("gamma" in tune and not gaussian,
                 f"gamma and model.likelihood '{config['model'].get('likelihood')}'",
                 "model.likelihood=gaussian", "which alone has a γ"),
        Conflict("gamma" in tune and mode != "fixed",
                 f"gamma and model.gamma.mode '{mode}'", fixed, "which sets γ itself"),
        Conflict(gaussian and mode == "optimal",
                 "model.gamma.mode 'optimal'", fixed, "a γ that moves with the weights"),
        Conflict("beta" in tune and kl["weight"] == 0,
                 "beta and model.kl.weight 0", "model.kl.weight above 0", logarithm),
        Conflict(kl["warmup_steps"] > 0,
                 "model.kl.warmup_steps", "model.kl.warmup_steps=0",
                 "during which the training loss changes"),
        Conflict("weight_decay" in tune and decay == 0,
                 "weight_decay and optimizer.weight_decay 0",
                 "optimizer.weight_decay above 0", logarithm),
        Conflict("rho" in tune and not (steps > 0 and objective == "proximal"),
                 f"rho and inner.objective '{objective}' and inner.max_steps {steps}",
                 "inner=proximal", "which has no ρ"),
        Conflict(inner.get("when", ALWAYS) != ALWAYS,
                 f"inner.when '{inner.get('when')}'", f"inner.when={ALWAYS}",
                 "by which the training loss changes"),
        Conflict(devices > 1, f"trainer.devices {devices}", "trainer.devices=1"),
        Conflict((trainer.get("accumulate_grad_batches") or 1) > 1,
                 "trainer.accumulate_grad_batches", "trainer.accumulate_grad_batches=1"),
        Conflict(bool(trainer.get("overfit_batches")),
                 "trainer.overfit_batches", "trainer.overfit_batches=null",
                 "which leaves out most of the training loss"),
        Conflict(inner["compile"],
                 "inner.compile", "inner.compile=false", "which keeps the old values"),
    ]  # fmt: skip


def _not_one_function(config: Mapping[str, Any]) -> list[Conflict]:
    """Trainings that do not go to a minimum of one function, or of one that is smooth in λ."""
    objective, gradient = config["inner"]["objective"], config["gradient"]["name"]
    posterior, weights = config["posterior"]["name"], config["encoder_loss"]
    solved, encoder = config["inner"]["max_steps"] > 0, config["model"]["encoder"] != "none"
    others = [name for name, weight in weights.items() if weight > 0 and name != "through"]
    return [
        Conflict(solved and objective != "proximal",
                 f"inner.objective '{objective}'", "inner=proximal, or inner=none",
                 "whose λ* sends no gradient to the encoder, or has kinks"),
        Conflict(solved and gradient != "ift",
                 f"gradient '{gradient}'", "gradient=ift",
                 "which does not go to a minimum over exact solutions"),
        Conflict(POSTERIORS[posterior].is_map,
                 f"posterior '{posterior}'", "posterior=diagonal_gaussian",
                 "which is found by MAP inference"),
        Conflict(bool(others),
                 f"encoder_loss '{', '.join(others[:1])}'", "encoder_loss=through",
                 "which trains the encoder at a constant decoder: no one function is minimised"),
        Conflict(encoder and weights["through"] != 1.0,
                 f"encoder_loss.through {weights['through']}", "encoder_loss=through",
                 "no gradient of one function"),
    ]  # fmt: skip
