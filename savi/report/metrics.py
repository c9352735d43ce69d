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


#: Longer headings.
FEW, TUNED = "Log-likelihood of a few", "Hyperparameters"
SOLVES, OTHERS = "Inner problem", "Out of distribution"

METRICS: dict[str, Metric] = {
    "elbo": Metric("Evidence lower bound", "nats", "higher", "Bound", ",.2f"),
    "reconstruction": Metric("Reconstruction, E log p(x|z)", "nats", "higher", "Bound", ",.2f"),
    "kl": Metric("KL from the prior, KL(q‖p)", "nats", None, "Bound", ",.2f"),
    "nll": Metric("Importance-weighted −log p(x)", "nats", "lower", "Bound", ",.2f"),
    "iwae": Metric("Importance-weighted bound", "nats", "higher", "Bound", ",.2f"),
    "effective_samples": Metric("Effective importance samples", "", "higher", "Bound", ".1f"),
    "squared_error": Metric("Squared error E‖x − μ(z)‖²", "", "lower", "Bound", ",.3f"),
    "bits_per_dim": Metric("Bits per dimension", "bits", "lower", "Bound", ".3f"),
    "perplexity": Metric("Perplexity of a word", "", "lower", "Bound", ",.2f"),
    "elbo_data_units": Metric("… lower bound, data's units", "nats", "higher", "Bound", ",.2f"),
    "nll_data_units": Metric("… −log p(x), data's units", "nats", "lower", "Bound", ",.2f"),
    "examples": Metric("Examples", "", None, "Bound", ",.0f"),
    "examples_trained_on": Metric("… that were trained on", "", None, "Bound", ",.0f"),
    "ais/log_likelihood": Metric("Log p(x), better of the two", "nats", "higher", FEW, ",.2f"),
    "ais/nll": Metric("Annealed −log p(x)", "nats", "lower", FEW, ",.2f"),
    "ais/standard_error": Metric("Its standard error", "nats", "lower", FEW, ",.3f"),
    "ais/nll_importance": Metric("Importance-weighted −log p(x)", "nats", "lower", FEW, ",.2f"),
    "ais/bdmc_gap": Metric("Bounds apart, simulated data", "nats", "lower", FEW, ",.3f"),
    "ais/effective_samples": Metric("Effective annealed chains", "", "higher", FEW, ".1f"),
    "ais/acceptance": Metric("Accepted HMC moves", "", None, FEW, ".1%"),
    "active_units": Metric("Active latent units", "", None, "Latents", ".4g"),
    "mutual_information": Metric("Mutual information I(x; z)", "nats", None, "Latents", ".2f"),
    "gamma": Metric("Decoder variance γ", "", None, "Latents", ".3g"),
    "scale": Metric("Decoder scale b", "", None, "Latents", ".3g"),
    "collapse/pruned_units": Metric("Pruned latent units", "", None, "Collapse", ".4g"),
    "collapse/sigma_near_one": Metric("Posterior σ within 0.1 of 1", "", None, "Collapse", ".1%"),
    "collapse/gamma_ratio": Metric("γ over its optimum", "", None, "Collapse", ".3g"),
    "collapse/gamma_optimum": Metric("Optimum of γ", "", None, "Collapse", ".3g"),
    "collapse/gamma_at_floor": Metric("Share of γ at its floor", "", None, "Collapse", ".1%"),
    "collapse/error": Metric("Squared error per dimension", "", "lower", "Collapse", ".3g"),
    "collapse/autoencoder_error": Metric("… of an autoencoder", "", None, "Collapse", ".3g"),
    "collapse/linear_error": Metric("… of principal components", "", None, "Collapse", ".3g"),
    "collapse/lost_share": Metric("Lost share of structure", "", "lower", "Collapse", ".1%"),
    "gap/approximation": Metric("Approximation gap", "nats", "lower", "Gaps", ",.3f"),
    "gap/amortization": Metric("Amortisation gap", "nats", "lower", "Gaps", ",.3f"),
    "gap/inference": Metric("Inference gap, their sum", "nats", "lower", "Gaps", ",.3f"),
    "gap/generalization": Metric("Generalisation gap", "nats", "lower", "Gaps", ",.3f"),
    "gap/converged": Metric("Optima converged", "", "higher", "Gaps", ".1%"),
    "gap/failures": Metric("Optima not certified", "", "lower", "Gaps", ".1%"),
    "gap/stationarity": Metric("Optima, worst stationarity", "", "lower", "Gaps", ".1e"),
    "gap/stationarity_median": Metric("Optima, median stationarity", "", "lower", "Gaps", ".1e"),
    "gap/min_curvature": Metric("Optima, smallest curvature", "", None, "Gaps", ".3g"),
    "inner/steps": Metric("Inner steps", "", "lower", "Inner problem", ".1f"),
    "inner/stationarity": Metric("Relative stationarity", "", "lower", "Inner problem", ".1e"),
    "inner/improvement": Metric("Gain over the start λ0", "nats", None, "Inner problem", ",.3f"),
    "inner/converged": Metric("Examples converged", "", "higher", "Inner problem", ".1%"),
    "inner/refined_from": Metric("Training refines from step", "", None, SOLVES, ",.0f"),
    "inner/solves": Metric("Inner solves in training", "", None, SOLVES, ",.0f"),
    "inner/solves_failed": Metric("Inner solves that failed", "", "lower", SOLVES, ",.0f"),
    "inner/solves_failed/not_converged": Metric("… not converged", "", "lower", SOLVES, ",.0f"),
    "inner/solves_failed/not_positive_definite": Metric(
        "… not positive definite", "", "lower", SOLVES, ",.0f"
    ),
    "inner/solves_failed/singular": Metric("… singular", "", "lower", SOLVES, ",.0f"),
    "inner/solves_failed/ill_conditioned": Metric("… ill-conditioned", "", "lower", SOLVES, ",.0f"),
    "inner/solves_failed/linear_solve": Metric("… linear solve", "", "lower", SOLVES, ",.0f"),
    "inner/solves_failed/gauss_newton_bias": Metric(
        "… bias of Gauss–Newton", "", "lower", SOLVES, ",.0f"
    ),
    "inner/solves_failed/kink": Metric("… near a kink", "", "lower", SOLVES, ",.0f"),
    "inner/solves_failed/just_active": Metric(
        "… constraint just active", "", "lower", SOLVES, ",.0f"
    ),
    "inner/solves_failed/diverged": Metric("… diverged", "", "lower", SOLVES, ",.0f"),
    "bad_steps": Metric("Steps left out, not finite", "", "lower", "Gradient", ",.0f"),
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
    "hyper/gamma": Metric("Tuned γ", "", None, TUNED, ".3g"),
    "hyper/beta": Metric("Tuned β, the KL weight", "", None, TUNED, ".3g"),
    "hyper/rho": Metric("Tuned ρ", "", None, TUNED, ".3g"),
    "hyper/weight_decay": Metric("Tuned weight decay", "", None, TUNED, ".3g"),
    "hyper/norm": Metric("Norm of the hypergradient", "", None, TUNED, ".3g"),
    "hyper/stationarity": Metric("Weights, relative stationarity", "", "lower", TUNED, ".1e"),
    "hyper/outer_shift": Metric("Weights, bound left to change", "nats", None, TUNED, ",.2f"),
    "hyper/linear_residual": Metric("Linear solve, residual", "", "lower", TUNED, ".1e"),
    "hyper/linear_steps": Metric("Linear solve, steps", "", None, TUNED, ".4g"),
    "hyper/min_curvature": Metric("Smallest curvature met", "", None, TUNED, ".3g"),
    "hyper/failed": Metric("Conditions broken", "", "lower", TUNED, ".0%"),
    "ood/auroc_regret": Metric("AUROC of the likelihood regret", "", "higher", OTHERS, ".3f"),
    "ood/auroc_elbo": Metric("AUROC of −ELBO", "", "higher", OTHERS, ".3f"),
    "ood/auroc_nll": Metric("AUROC of −log p(x)", "", "higher", OTHERS, ".3f"),
    "ood/regret_inlier": Metric("Regret, own data", "nats", None, OTHERS, ",.2f"),
    "ood/regret_outlier": Metric("Regret, other data", "nats", None, OTHERS, ",.2f"),
    "ood/failures": Metric("Refinements not certified", "", "lower", OTHERS, ".1%"),
    "cost/step_seconds": Metric("Time per training step", "s", "lower", "Cost", ".3g"),
    "cost/peak_memory_mb": Metric("Peak memory", "MB", "lower", "Cost", ",.0f"),
    "cost/decoder_evaluations": Metric(
        "Decoder evaluations, per step", "", "lower", "Cost", ",.1f"
    ),
}
"""Every quantity the framework measures, in the order in which tables list them."""

SOUGHT: dict[str, Literal["higher", "lower"]] = {
    "active_units": "higher",
    "mutual_information": "higher",
    "collapse/pruned_units": "lower",
    "collapse/sigma_near_one": "lower",
    "collapse/autoencoder_error": "lower",
    "collapse/linear_error": "lower",
}
"""Which way a search goes by a metric that tables mark no best value of."""


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


def direction(name: str) -> Literal["maximize", "minimize"] | None:
    """Which way a search by this metric goes; None where neither end is better.

    >>> direction("val/elbo"), direction("test/nll"), direction("test/kl")
    ('maximize', 'minimize', None)
    """
    metric = describe(name)
    better = SOUGHT.get(parse(name)[1], metric.better if metric else None)
    return {"higher": "maximize", "lower": "minimize", None: None}[better]
