"""What a prior has to do with the rest of a run: the inference network in it, and free bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from savi.errors import Conflict, refuse
from savi.inference.semi_amortized import SemiAmortizedInference
from savi.vae.priors import Prior, VampPrior

#: The families in which the encoder alone gives a Gaussian.
GAUSSIAN = ("diagonal_gaussian", "full_gaussian")


def connect(prior: Prior, inference: SemiAmortizedInference, model: Mapping[str, Any]) -> None:
    """Let a VampPrior ask the inference network for the posteriors of its pseudo-inputs.

    Args:
        prior: p(z).
        inference: the run's.
        model: the group ``model``.

    Raises:
        InputError: where there is no network, or what it says is no Gaussian; and for free bits
            with another prior than N(0, I), or with a flow.
    """
    kl = model["kl"]
    if inference.family.name == "flow":
        free = "which split the KL term by dimensions, as only that of a Gaussian can be"
        bits = kl["free_bits"] > 0
        refuse(
            "posterior 'flow'",
            [Conflict(bits, "model.kl.free_bits", "model.kl.free_bits=0", free)],
        )
    if prior.standard:
        return
    made, family = isinstance(prior, VampPrior), inference.family.name
    conflicts = [
        Conflict(
            kl["free_bits"] > 0, "model.kl.free_bits", "model.kl.free_bits=0",
            "which split the KL term by dimensions, as only that from N(0, I) can be",
        ),
        Conflict(
            made and inference.encoder is None, "model.encoder 'none'", "model.prior=mixture",
            "which leaves nothing to say what the posteriors of its pseudo-inputs are",
        ),
        Conflict(
            made and model.get("condition", "none") != "none",
            f"model.condition '{model.get('condition')}'", "model.prior=mixture",
            "which asks for the label of a pseudo-input",
        ),
        Conflict(
            made and model.get("encoder") == "lstm", "model.encoder 'lstm'", "model.prior=mixture",
            "which reads words where a pseudo-input has numbers",
        ),
        Conflict(
            made and family not in GAUSSIAN, f"posterior '{family}'", "model.prior=mixture",
            "in which the encoder alone does not give a Gaussian",
        ),
    ]  # fmt: skip
    refuse(f"model.prior '{prior.name}'", conflicts)
    if isinstance(prior, VampPrior):
        prior.encode = inference.amortised
