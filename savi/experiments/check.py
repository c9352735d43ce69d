"""Everything that can be judged of a config before any data are read, in one pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from savi.errors import within
from savi.experiments.check_hypergradient import check_hypergradient
from savi.experiments.check_values import check_values
from savi.inference.encoder_losses import EncoderObjective
from savi.inference.gradient_check import check_reference
from savi.inference.refinement import Refinement
from savi.inference.semi_amortized import SemiAmortizedInference
from savi.vae.families import POSTERIORS


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
    with within("posterior"):
        family = POSTERIORS.chosen(config["posterior"], model["latent_dim"])
    # That there is one is all that matters here.
    encoder = None if model["encoder"] == "none" else nn.Identity()
    inference = SemiAmortizedInference(encoder, family, config["inner"], config["gradient"])
    EncoderObjective(config["encoder_loss"], inference)
    if config["inner"].get("warm_start"):
        # Lightning's import takes seconds.
        from savi.training.warm_start import WarmStarts

        WarmStarts.build(config["inner"], inference)
    with within("inner"):
        Refinement.of(config["inner"], inference)
    if callbacks["gradient_check_every_n_steps"] is not None:
        check_reference(callbacks["gradient_check_reference"], inference)
