"""Which kind of posterior collapse a run shows: the five of Dai, Wang and Wipf (2019)."""

from __future__ import annotations

import sys
from dataclasses import dataclass

#: The kinds in words. Kind (iv) needs a decoder that predicts x from its own earlier entries; none
#: of savi's does (given z, the entries of x are independent), so it is excluded by construction.
KINDS = {
    "none": "no collapse",
    "i": "benign pruning of superfluous dimensions",
    "ii": "observation variance too large",
    "iii": "decoder variance at its floor",
    "iv": "autoregressive decoder",
    "v": "bad local minimum",
}

#: γ acts as too large above this multiple of its optimum. A dimension that is pruned in between,
#: at γ < λ ≤ 1.5γ, was worth ½(λ/γ − 1 − log λ/γ) < 0.05 nats an example.
MAX_RATIO = 1.5
#: A code of κ dimensions fits κ dimensions of the noise too. What it reconstructs better counts
#: only beyond this multiple of that noise, because noise is larger in some directions by chance.
NOISE_MARGIN = 1.5
#: A VAE whose γ is right misses something if it leaves unexplained this share of the variance that
#: an autoencoder explains. An autoencoder has no noise to withstand and is always somewhat better
#: (Dai et al., figures 2 and 3); a collapsed VAE leaves all of it.
LOST_SHARE = 0.25


@dataclass(frozen=True)
class Evidence:
    """What the verdict is based on; errors are mean squares per observed dimension.

    Attributes:
        latent_dim: κ.
        dim: D.
        pruned: latent dimensions whose posterior is the prior.
        gamma: γ, averaged over the observed dimensions.
        gamma_optimum: (1/nD) Σ E_q‖x − μ(z)‖² (eq. 10).
        floored: the share of the entries of a free γ that are at its floor.
        beta: the weight of the KL term in training.
        variance: that of the data, the error of the decoder that outputs their mean.
        error: the VAE's, at the posterior mean.
        linear_error: that of κ principal components.
        autoencoder_error: that of an autoencoder of the same architecture; None if there is none.
    """

    latent_dim: int
    dim: int
    pruned: int
    gamma: float
    gamma_optimum: float
    floored: float
    beta: float
    variance: float
    error: float
    linear_error: float
    autoencoder_error: float | None = None

    @property
    def gamma_ratio(self) -> float:
        """γ over its optimum."""
        return self.gamma / max(self.gamma_optimum, sys.float_info.min)

    @property
    def effective_ratio(self) -> float:
        """βγ over the optimum of γ: at fixed γ, dimension i is pruned iff λ_i ≤ βγ."""
        return self.beta * self.gamma_ratio

    @property
    def reference_error(self) -> float:
        """The least error that a deterministic code of κ dimensions is known to reach.

        The autoencoder's own training may have ended in a bad minimum, or too early; principal
        components cannot.
        """
        if self.autoencoder_error is None:
            return self.linear_error
        return min(self.autoencoder_error, self.linear_error)

    @property
    def lost_share(self) -> float:
        """The part of the variance explained by the reference that the VAE leaves unexplained."""
        return self._lost(self.error, self.reference_error)

    @property
    def autoencoder_failed(self) -> bool:
        """Whether the autoencoder leaves much unexplained that principal components explain."""
        error = self.autoencoder_error
        return error is not None and self._lost(error, self.linear_error) > LOST_SHARE

    def _lost(self, error: float, reference: float) -> float:
        explained = self.variance - reference
        return (error - reference) / explained if explained > 0 else 0.0

    def beyond_noise(self, noise: float) -> bool:
        """Whether the reference gains more than κ dimensions of noise of this variance."""
        gain = self.dim * (self.error - self.reference_error)
        return gain > NOISE_MARGIN * self.latent_dim * noise


@dataclass(frozen=True)
class Verdict:
    """The kind of collapse, its name, and why.

    Attributes:
        kind: "none" or the number of the kind, "i" to "v".
        sentence: with the numbers that led to it, and for a harmful kind what to change.
    """

    kind: str
    sentence: str

    @property
    def name(self) -> str:
        """The kind in words."""
        return KINDS[self.kind]


def judge(evidence: Evidence) -> Verdict:
    """Name the kind of collapse.

    1. Without a pruned dimension there is none.
    2. If βγ is above the optimum of γ, and a deterministic code describes more of the data than
       noise (whose variance is estimated from that code's own residual, on D − κ degrees of
       freedom), γ has pruned what was needed: (ii). For affine decoders the pruned dimensions are
       those with λ_i ≤ βγ.
    3. If γ is right, and a deterministic code is far better than the VAE by more than the noise
       that the VAE sees, then the VAE is at a bad local minimum: (v). If the autoencoder of the
       same architecture is as bad, the VAE has inherited its minimum, which gets likelier with
       depth. Where a free γ has run into its floor, it is the bound, unbounded but for the floor,
       that is to blame: (iii). The paper's own (iii), a variance of its own for each example,
       cannot occur: savi's γ is shared by all examples.
    4. Otherwise little is lost: (i).
    """
    e = evidence
    if e.pruned == 0:
        return Verdict("none", f"All {e.latent_dim} latent dimensions are in use.")
    pruned = f"{e.pruned} of {e.latent_dim} latent dimensions are pruned"
    compared = _compared(e)
    if e.effective_ratio > MAX_RATIO:
        residual_noise = e.dim * e.reference_error / max(1, e.dim - e.latent_dim)
        if e.beyond_noise(residual_noise):
            weighted = "γ" if e.beta == 1.0 else f"βγ (β = {e.beta:g})"
            return Verdict(
                "ii",
                f"{pruned} because {weighted} is {e.effective_ratio:.3g} times the optimum of γ, "
                f"{e.gamma_optimum:.3g}: {compared}; set model.gamma.mode=optimal and "
                "model.kl.weight=1, or lower them.",
            )
    elif e.beyond_noise(e.gamma_optimum) and e.lost_share > LOST_SHARE:
        return _not_needed(e, pruned, compared)
    return Verdict(
        "i",
        f"{pruned}, with γ at {e.gamma_ratio:.3g} times its optimum, and they are superfluous: "
        f"{compared}, so that {max(0.0, e.lost_share):.0%} of the variance that the best of these "
        "explains is left unexplained.",
    )


def _not_needed(e: Evidence, pruned: str, compared: str) -> Verdict:
    """Dimensions that would have been useful, though γ is not too large for them."""
    if e.floored > 0:
        return Verdict(
            "iii",
            f"{pruned} while {e.floored:.0%} of γ is at its floor, without which the bound would "
            f"be unbounded: {compared}; raise model.gamma.floor, set model.gamma.mode=optimal, or "
            "dequantise the data.",
        )
    if e.autoencoder_error is None:
        advice = "train for longer, with another seed, or a shallower decoder (model.depth)"
    elif e.autoencoder_failed:
        advice = (
            "the autoencoder of the same architecture is at a bad minimum itself, far above the "
            "principal components, and the VAE inherits it: lower model.depth, or use "
            "model.decoder=residual_mlp or resnet (or train both for longer, trainer.max_epochs "
            "and evaluation.autoencoder_steps)"
        )
    else:
        advice = (
            "the architecture can do better, and this training did not find it: train for longer, "
            "with another seed, or with model.kl.warmup_steps"
        )
    return Verdict(
        "v",
        f"{pruned} although γ is at {e.gamma_ratio:.3g} times its optimum: {compared}; {advice}.",
    )


def _compared(e: Evidence) -> str:
    """The errors beside each other."""
    autoencoder = (
        ""
        if e.autoencoder_error is None
        else f"an autoencoder of the same architecture {e.autoencoder_error:.3g}, "
    )
    return (
        f"the VAE's squared error per dimension is {e.error:.3g}, {autoencoder}"
        f"{e.latent_dim} principal components {e.linear_error:.3g}, the mean alone {e.variance:.3g}"
    )
