"""Everything that can be judged of a config before any data are read, in one pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from savi.config.data_changes import CHANGES, refuse_changes
from savi.errors import Conflict, refuse, within
from savi.experiments.check_hypergradient import check_hypergradient
from savi.experiments.check_values import check_values
from savi.inference.encoder_losses import EncoderObjective
from savi.inference.gradient_check import check_reference
from savi.inference.outer_loss import check_objective
from savi.inference.priors import connect
from savi.inference.refinement import Refinement
from savi.inference.semi_amortized import SemiAmortizedInference
from savi.vae.build import build_prior
from savi.vae.families import POSTERIORS
from savi.vae.likelihoods import LIKELIHOODS
from savi.vae.networks import DECODERS


def check(config: Mapping[str, Any]) -> None:
    """Refuse what no run could use: values first, then combinations.

    Those of the method stand beside its classes, which are built here without their networks.

    Args:
        config: a whole run's config; one of an earlier version may lack keys.

    Raises:
        InputError: for the first setting or combination that is wrong.
    """
    check_values(config)
    if tuned := config.get("hypergradient", {}).get("tune", []):
        check_hypergradient(config, tuned)
    _check_method(config)


def _check_method(config: Mapping[str, Any]) -> None:
    """Inner problem, optimiser, backend, encoder losses, warm starts and the gradient check."""
    model, callbacks = config["model"], config["callbacks"]
    check_likelihood(model, config["data"])
    _check_smoothness(config)
    _check_sequences(config)
    with within("posterior"):
        family = POSTERIORS.chosen(config["posterior"], model["latent_dim"])
    # That there is one is all that matters here.
    encoder = None if model["encoder"] == "none" else nn.Identity()
    inference = SemiAmortizedInference(encoder, family, config["inner"], config["gradient"])
    connect(build_prior(model, data_dim=1), inference, model)
    tuned = bool(config.get("hypergradient", {}).get("tune"))
    check_objective(model, inference, tuned)
    EncoderObjective(config["encoder_loss"], inference)
    if config["inner"].get("warm_start"):
        # Lightning's import takes seconds.
        from savi.training.warm_start import WarmStarts

        WarmStarts.build(config["inner"], inference)
    with within("inner"):
        Refinement.of(config["inner"], inference)
    if callbacks.get("aggressive_encoder_steps") is not None:
        _check_aggressive_encoder(config, inference)
    if callbacks["gradient_check_every_n_steps"] is not None:
        check_reference(callbacks["gradient_check_reference"], inference)


def _check_aggressive_encoder(config: Mapping[str, Any], inference: SemiAmortizedInference) -> None:
    """Refuse what updates of the encoder alone cannot go with.

    Raises:
        InputError: for the first choice.
    """
    trainer, family = config["trainer"], inference.family
    precision = trainer["precision"]
    conflicts = [
        Conflict(inference.encoder is None, "model.encoder 'none'", "model.encoder=mlp"),
        Conflict(
            not family.has_density, f"posterior '{family.name}'", "posterior=laplace",
            "which has no mutual information",
        ),
        Conflict(trainer["devices"] > 1, "several devices", "trainer.devices=1"),
        Conflict(
            precision.endswith("mixed"), f"trainer.precision '{precision}'",
            "trainer.precision=32-true",
        ),
        Conflict(
            (trainer.get("accumulate_grad_batches") or 1) > 1, "trainer.accumulate_grad_batches",
            "trainer.accumulate_grad_batches=1",
        ),
        Conflict(
            bool(config.get("hypergradient", {}).get("tune")),
            "hypergradient.tune", "hypergradient.tune=[]",
            "which needs one training loss for all weights",
        ),
    ]  # fmt: skip
    otherwise = "callbacks.aggressive_encoder_steps=null"
    refuse("callbacks.aggressive_encoder_steps", conflicts, otherwise)


def _check_sequences(config: Mapping[str, Any]) -> None:
    """Refuse what cannot be had of decoders that go through x step by step.

    Raises:
        InputError: for the first choice.
    """
    name, inner, callbacks = config["model"]["decoder"], config["inner"], config["callbacks"]
    if not getattr(DECODERS[name], "autoregressive", False):
        return
    checked = callbacks["gradient_check_every_n_steps"] is not None
    drops = (config["model"].get("word_dropout") or 0.0) > 0
    conflicts = [
        Conflict(
            inner["max_steps"] > 0 and inner.get("compile", False),
            "inner.compile", "inner.compile=false", "which would compile every step of a sequence",
        ),
        Conflict(
            checked and drops,
            "callbacks.gradient_check_every_n_steps and model.word_dropout",
            "model.word_dropout=0", "by which two evaluations of a loss differ",
        ),
    ]  # fmt: skip
    refuse(f"model.decoder '{name}'", conflicts)


def _check_smoothness(config: Mapping[str, Any]) -> None:
    """Refuse what needs the Hessian of a bound that has kinks.

    Raises:
        InputError: for the first choice that does.
    """
    likelihood = LIKELIHOODS[config["model"].get("likelihood", "gaussian")]
    inner, callbacks = config["inner"], config["callbacks"]
    if likelihood.smooth:
        return
    solves = inner["max_steps"] > 0
    checked = callbacks["gradient_check_every_n_steps"] is not None
    tuned = bool(config.get("hypergradient", {}).get("tune"))
    kinks = "which needs the Hessian of a bound that has kinks"
    conflicts = [
        Conflict(
            solves and config["gradient"]["name"] == "ift",
            "gradient 'ift'", "gradient=unrolled", kinks,
        ),
        Conflict(
            solves and inner["optimizer"] == "newton",
            "inner.optimizer 'newton'", "inner.optimizer=levenberg_marquardt", kinks,
        ),
        Conflict(
            checked and callbacks["gradient_check_reference"] == "ift",
            "callbacks.gradient_check_reference 'ift'",
            "callbacks.gradient_check_reference=unrolled", kinks,
        ),
        Conflict(tuned, "hypergradient.tune", "hypergradient.tune=[]", kinks),
    ]  # fmt: skip
    refuse(f"model.likelihood '{likelihood.name}'", conflicts)


#: What a likelihood is for, by its support, and what would make something else of such data.
KINDS = {"binary": "ones and zeros", "unit": "numbers in [0, 1]", "levels": "whole levels"}
_SPOILING = {
    "binary": ("dequantise", "centre", "scale"), "unit": ("centre", "scale"), "levels": CHANGES,
}  # fmt: skip


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
    owner, kind = f"model.likelihood '{likelihood.name}'", KINDS[likelihood.support]
    refuse_changes(owner, data, _SPOILING[likelihood.support], reason=f"which is for {kind}")
