"""Which kind of posterior collapse a run shows: one of the five of Dai, Wang and Wipf (2019).

Or that the run does not tell: where its training was not over, or no yardstick is sound.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from savi.evaluation.advice import Advice

#: The kinds in words. Kind (iv) needs a decoder that predicts x from its own earlier entries; none
#: of savi's does (given z, the entries of x are independent), so it is excluded by construction.
KINDS = {
    "none": "no collapse",
    "i": "benign pruning of superfluous dimensions",
    "ii": "observation variance too large",
    "iii": "decoder variance at its floor",
    "iv": "autoregressive decoder",
    "v": "bad local minimum",
    "undecided": "undecided",
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
#: An autoencoder that leaves this share of what principal components explain is no yardstick.
FAILED_SHARE = 0.1
#: A gain in nats counts beyond this many of its standard errors.
STANDARD_ERRORS = 3.0


@dataclass(frozen=True)
class HeldOut:
    """Mean log-likelihoods of the split in nats, by principal components of the training split.

    Noise that a code fits as well gains nothing here, however many dimensions the code has.

    Attributes:
        elbo: the VAE's.
        none: with no component: a Gaussian of one variance.
        used: with as many as the VAE uses at most.
        most: with κ at most.
        error: the standard error of ``most`` − ``used``.
    """

    elbo: float
    none: float
    used: float
    most: float
    error: float

    @property
    def needed(self) -> bool:
        """Whether the pruned dimensions would be of use, and the VAE does badly without them."""
        if self.most - self.used <= STANDARD_ERRORS * self.error:
            return False
        return self.most - self.elbo > LOST_SHARE * (self.most - self.none)


@dataclass(frozen=True)
class Evidence:
    """What the verdict is based on; errors are mean squares per observed dimension.

    Attributes:
        latent_dim: κ.
        dim: D.
        pruned: latent dimensions that are not used.
        gamma: γ, averaged over the observed dimensions.
        gamma_optimum: (1/nD) Σ E_q‖x − μ(z)‖² (eq. 10).
        floored: the share of the entries of a free γ that are at its floor.
        beta: the weight of the KL term in training.
        variance: that of the data, the error of the decoder that outputs their mean.
        error: the VAE's, at the posterior mean.
        linear_error: that of κ principal components.
        autoencoder_error: that of an autoencoder of the same architecture; None if there is none.
        held_out: what components gain on data they were not fitted to; None if it is not known.
        trend: what speaks against the training's being over; empty if nothing does.
        steps: of the training, and of the autoencoder's; None where they are not known.
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
    held_out: HeldOut | None = None
    trend: str = ""
    steps: tuple[int, int] | None = None

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
        """Whether the autoencoder is worse than the principal components, and so no yardstick."""
        error = self.autoencoder_error
        return error is not None and self._lost(error, self.linear_error) > FAILED_SHARE

    def _lost(self, error: float, reference: float) -> float:
        explained = self.variance - reference
        return (error - reference) / explained if explained > 0 else 0.0

    @property
    def errors_tell(self) -> bool:
        """Whether κ is small enough beside D for an error to tell a signal from noise.

        A code of nearly D dimensions puts the noise back together as well.
        """
        return self.dim > NOISE_MARGIN * self.latent_dim

    def needed(self, noise: float) -> bool:
        """Whether the reference gains more than κ dimensions of noise of this variance.

        Where errors cannot tell, or miss it, the likelihood of held-out data does.
        """
        if self.held_out is not None and self.held_out.needed:
            return True
        gain = self.dim * (self.error - self.reference_error)
        return self.errors_tell and gain > NOISE_MARGIN * self.latent_dim * noise


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


def judge(evidence: Evidence, advice: Advice | None = None) -> Verdict:
    """Name the kind of collapse.

    1. Without a pruned dimension there is none.
    2. If βγ is above the optimum of γ, and a deterministic code describes more of the data than
       noise (whose variance is estimated from that code's own residual, on D − κ degrees of
       freedom), γ has pruned what was needed: (ii). For affine decoders the pruned dimensions are
       those with λ_i ≤ βγ.
    3. If γ is right, and a deterministic code is far better than the VAE by more than the noise
       that the VAE sees, then the VAE is at a bad local minimum: (v). Where a free γ has run into
       its floor, it is the bound, unbounded but for the floor, that is to blame: (iii). The paper's
       own (iii), a variance of its own for each example, cannot occur: savi's γ is shared by all
       examples.
    4. Where κ is nearly D or above, errors tell no signal from noise, and what principal components
       gain in likelihood on held-out data decides.
    5. While the bound still rises, dimensions that are missing may yet come: undecided. So it is if
       the autoencoder that does better was given more steps, since a VAE may rest on a plateau at
       first; and if the autoencoder is worse than principal components: it may be at the minimum
       that the VAE inherits, which gets likelier with depth, or trained too briefly.
    6. Otherwise little is lost: (i).

    Where the KL term had no weight, nothing draws a posterior to the prior: no kind of collapse,
    and the scale of the means, by which a dimension counts as used, is anything.
    """
    e, advice = evidence, advice or Advice()
    if e.beta == 0:
        return _unweighted(e)
    if e.pruned == 0:
        poor = f", and still {_compared(e)}" if e.lost_share > LOST_SHARE else ""
        return Verdict("none", f"All {e.latent_dim} latent dimensions are in use{poor}.")
    are = "is" if e.pruned == 1 else "are"
    pruned = f"{e.pruned} of {e.latent_dim} latent dimensions {are} pruned"
    compared = _compared(e)
    if e.effective_ratio > MAX_RATIO:
        if e.needed(e.dim * e.reference_error / max(1, e.dim - e.latent_dim)):
            return _too_large(e, pruned, compared, advice)
    elif (e.held_out is not None and e.held_out.needed) or (
        e.needed(e.gamma_optimum) and e.lost_share > LOST_SHARE
    ):
        return _missed(e, pruned, compared, advice)
    if not e.errors_tell and e.held_out is None and e.lost_share > LOST_SHARE:
        return Verdict(
            "undecided",
            f"{pruned}, and a code of {e.latent_dim} dimensions for {e.dim} reconstructs noise as "
            f"well as a signal, so that errors alone do not tell whether they were needed: "
            f"{compared}.",
        )
    return Verdict(
        "i",
        f"{pruned}, with γ at {e.gamma_ratio:.3g} times its optimum, and superfluous: "
        f"{compared}{_share_left(e)}.",
    )


def _unweighted(e: Evidence) -> Verdict:
    """Without a KL term in training."""
    unused = "none" if e.pruned == 0 else f"{e.pruned}"
    of = f"{unused} of {e.latent_dim} latent dimensions"
    have = "has" if e.pruned == 1 else "have"
    poor = f"; still, {_compared(e)}" if e.lost_share > LOST_SHARE else ""
    unfinished = (
        f"; {e.trend}, so train for longer (trainer.max_epochs)" if poor and e.trend else ""
    )
    return Verdict(
        "none",
        "The KL term has no weight (model.kl.weight=0), so that nothing draws a posterior to the "
        f"prior and no dimension can be pruned: {of} {have} a mean that varies too little to count "
        f"as active, but the scale of a code is then arbitrary{poor}{unfinished}.",
    )


def _share_left(e: Evidence) -> str:
    if not e.errors_tell:
        return ""
    return (
        f", so that {max(0.0, e.lost_share):.0%} of the variance that the best of these explains "
        "is left unexplained"
    )


def _too_large(e: Evidence, pruned: str, compared: str, advice: Advice) -> Verdict:
    """Dimensions that γ has pruned; it may still be on its way if it is learned."""
    weighted = "γ" if e.beta == 1.0 else f"βγ (β = {e.beta:g})"
    because = f"{weighted} is {e.effective_ratio:.3g} times the optimum of γ, {e.gamma_optimum:.3g}"
    if e.trend and e.gamma_ratio > MAX_RATIO and advice.gamma_is_learned:
        return _not_over(e, f"{pruned} while {because}", compared)
    return Verdict("ii", f"{pruned} because {because}: {compared}; {advice.lower_gamma(e.beta)}.")


def _missed(e: Evidence, pruned: str, compared: str, advice: Advice) -> Verdict:
    """Dimensions that would have been useful, though γ is not too large for them."""
    although = f"{pruned} although γ is at {e.gamma_ratio:.3g} times its optimum"
    if e.trend:
        return _not_over(e, although, compared)
    if e.floored > 0:
        return Verdict(
            "iii",
            f"{pruned} while {e.floored:.0%} of γ is at its floor, without which the bound would "
            f"be unbounded: {compared}; {advice.raise_floor()}.",
        )
    if not e.autoencoder_failed and e.steps is not None and e.steps[0] < e.steps[1]:
        return Verdict(
            "undecided",
            f"{although}: {compared}; but this training took {e.steps[0]:,} steps and that "
            f"autoencoder {e.steps[1]:,}, so train for as long (trainer.max_epochs) before calling "
            "it a collapse.",
        )
    if e.autoencoder_failed:
        return Verdict(
            "undecided",
            f"{although}: {compared}; the autoencoder of the same architecture is worse than the "
            "principal components, either at a bad minimum itself, and the VAE inherits it, or "
            f"trained too briefly: {advice.lighter_decoder()}.",
        )
    found = (
        ""
        if e.autoencoder_error is None
        else ("the architecture can do better, and this training did not find it: ")
    )
    return Verdict("v", f"{although}: {compared}; {found}{advice.another_minimum()}.")


def _not_over(e: Evidence, what: str, compared: str) -> Verdict:
    """No verdict on a training that was not over."""
    return Verdict(
        "undecided",
        f"{what}: {compared}; but {e.trend}, so train for longer (trainer.max_epochs) before "
        "calling it a collapse.",
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
        + _held_out(e)
    )


def _held_out(e: Evidence) -> str:
    """What the components are worth on held-out data, where errors do not tell."""
    nats = e.held_out
    if nats is None or (e.errors_tell and not nats.needed):
        return ""
    return (
        f"; the log-likelihood of held-out data by the components is {nats.most:.4g} nats, and "
        f"{nats.used:.4g} with only as many as the VAE uses, whose ELBO is {nats.elbo:.4g}"
    )
