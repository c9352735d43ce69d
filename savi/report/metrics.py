"""What each metric means: its label, unit, better direction and number format, in one table."""

from dataclasses import dataclass
from typing import Literal

SPLITS = {"test": "", "val": "validation", "train": "training"}
"""The data a metric was measured on: prefix of its name -> word beside its label."""


@dataclass(frozen=True)
class Metric:
    """How to speak of one quantity.

    Attributes:
        label: plain words, as a table row or an axis shows them.
        unit: unit of the value; empty for a pure number.
        better: the direction of improvement, or None where neither end is good in itself.
        group: the heading under which tables list it.
        spec: format specification that gives the value sensible digits.
    """

    label: str
    unit: str
    better: Literal["higher", "lower"] | None
    group: str
    spec: str

    def format(self, value: float) -> str:
        """The value as text, without its unit."""
        return format(float(value), self.spec)


METRICS: dict[str, Metric] = {
    "elbo": Metric("Evidence lower bound", "nats", "higher", "Bound", ",.2f"),
    "reconstruction": Metric("Reconstruction, E log p(x|z)", "nats", "higher", "Bound", ",.2f"),
    "kl": Metric("KL from the prior, KL(q‖p)", "nats", None, "Bound", ",.2f"),
    "nll": Metric("Importance-weighted −log p(x)", "nats", "lower", "Bound", ",.2f"),
    "effective_samples": Metric("Effective importance samples", "", "higher", "Bound", ".1f"),
    "squared_error": Metric("Squared error E‖x − μ(z)‖²", "", "lower", "Bound", ",.3f"),
    "bits_per_dim": Metric("Bits per dimension", "bits", "lower", "Bound", ".3f"),
    "active_units": Metric("Active latent units", "", None, "Latents", ".4g"),
    "mutual_information": Metric("Mutual information I(x; z)", "nats", None, "Latents", ".2f"),
    "gamma": Metric("Decoder variance γ", "", None, "Latents", ".3g"),
    "gap/approximation": Metric("Approximation gap", "nats", "lower", "Gaps", ",.3f"),
    "gap/amortization": Metric("Amortisation gap", "nats", "lower", "Gaps", ",.3f"),
    "gap/generalization": Metric("Generalisation gap", "nats", "lower", "Gaps", ",.3f"),
    "inner/steps": Metric("Inner steps", "", "lower", "Inner problem", ".1f"),
    "inner/stationarity": Metric("Relative stationarity", "", "lower", "Inner problem", ".1e"),
    "inner/improvement": Metric("Gain over the start λ0", "nats", None, "Inner problem", ",.3f"),
    "inner/converged": Metric("Examples converged", "", "higher", "Inner problem", ".1%"),
    "gradient/norm_encoder": Metric("Norm, encoder", "", None, "Gradient", ".3g"),
    "gradient/norm_decoder": Metric("Norm, decoder", "", None, "Gradient", ".3g"),
    "gradient/cosine_to_reference": Metric(
        "Cosine to the reference", "", "higher", "Gradient", ".4f"
    ),
    "gradient/cosine_to_reference_decoder": Metric(
        "Cosine to reference, decoder", "", "higher", "Gradient", ".4f"
    ),
    "gradient/cosine_to_reference_encoder": Metric(
        "Cosine to reference, encoder", "", "higher", "Gradient", ".4f"
    ),
    "gradient/relative_error_decoder": Metric(
        "Error to reference, decoder", "", "lower", "Gradient", ".1e"
    ),
    "gradient/relative_error_encoder": Metric(
        "Error to reference, encoder", "", "lower", "Gradient", ".1e"
    ),
    "gradient/reference_failures": Metric(
        "Reference examples that fail", "", "lower", "Gradient", ".1%"
    ),
    "ift/min_curvature": Metric("Smallest curvature", "", None, "Certificate", ".3g"),
    "ift/linear_residual": Metric("Linear solve, residual", "", "lower", "Certificate", ".1e"),
    "ift/linear_steps": Metric("Linear solve, steps", "", None, "Certificate", ".1f"),
    "ift/error_bound": Metric("Estimated gradient error", "", "lower", "Certificate", ".1e"),
    "ift/failures": Metric("Examples that fail", "", "lower", "Certificate", ".1%"),
    "cost/step_seconds": Metric("Time per training step", "s", "lower", "Cost", ".3g"),
    "cost/peak_memory_mb": Metric("Peak memory", "MB", "lower", "Cost", ",.0f"),
    "cost/decoder_evaluations": Metric(
        "Decoder evaluations, per step", "", "lower", "Cost", ",.1f"
    ),
}
"""Every quantity the framework measures, in the order in which tables list them."""


def parse(name: str) -> tuple[str | None, str]:
    """Separate a metric's name into its split, if it has one, and its quantity.

    >>> parse("test/gap/amortization"), parse("inner/steps")
    (('test', 'gap/amortization'), (None, 'inner/steps'))
    """
    split, slash, quantity = name.partition("/")
    return (split, quantity) if slash and split in SPLITS else (None, name)


def describe(name: str) -> Metric | None:
    """The description of a metric by its logged name (``test/elbo``); None if it is unknown."""
    return METRICS.get(parse(name)[1])
