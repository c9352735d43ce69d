"""Posterior collapse in the terms of Dai, Wang and Wipf (2019, arXiv 1912.10702)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from savi.evaluation.advice import Advice
from savi.evaluation.verdict import Evidence, HeldOut, Verdict, judge
from savi.vae.distributions import Posterior
from savi.vae.model import VAE, GaussianVAE
from savi.vae.monte_carlo import example_slices

#: A posterior standard deviation within this of 1 is the prior's.
NEAR_ONE = 0.1
#: A free γ within this multiple of its floor is held up by it.
AT_FLOOR = 2.0
#: Bins of the histogram of σ_z, from 0 to this, beyond which the last bin holds all.
BINS, LARGEST_SIGMA = 60, 1.2
#: Burda et al. (2016) call a unit active if its posterior mean varies more than this; here the
#: others are called pruned.
ACTIVE_VARIANCE = 0.01


@dataclass(frozen=True)
class Collapse:
    """The diagnostics of a split.

    Attributes:
        kl_per_dimension: the mean over the examples, in nats; None where the prior is not N(0, I),
            from which alone the KL is a sum over the dimensions.
        sigma: posterior standard deviations σ_z; those of a collapsed dimension are about 1 where
            the prior is N(0, I), and nothing is said of them where it is not.
        pruned: latent dimensions that are not used.
        evidence: the numbers that decide; None where there are none.
        verdict: which of the five kinds it is, and why.
    """

    kl_per_dimension: Float[Tensor, " d"] | None
    sigma: Float[Tensor, "N d"] | None
    pruned: int
    evidence: Evidence | None
    verdict: Verdict

    def metrics(self) -> dict[str, float]:
        """The numbers, as ``collapse/...``; errors are mean squares per observed dimension."""
        e = self.evidence
        values = {"pruned_units": float(self.pruned)}
        if self.sigma is not None:
            near = (self.sigma - 1.0).abs() < NEAR_ONE
            values["sigma_near_one"] = float(near.double().mean())
        if e is not None:
            values |= self._numbers(e)
        return {f"collapse/{name}": value for name, value in values.items()}

    @staticmethod
    def _numbers(e: Evidence) -> dict[str, float]:
        values = {
            "gamma_ratio": e.gamma_ratio,
            "gamma_optimum": e.gamma_optimum,
            "gamma_at_floor": e.floored,
            "error": e.error,
            "linear_error": e.linear_error,
            "lost_share": e.lost_share,
        }
        if e.autoencoder_error is not None:
            values["autoencoder_error"] = e.autoencoder_error
        return values

    def record(self) -> dict[str, Any]:
        """Verdict, numbers, KL per dimension and the histogram of σ_z, as plain values for JSON."""
        record: dict[str, Any] = {
            "kind": self.verdict.kind,
            "name": self.verdict.name,
            "reason": self.verdict.sentence,
            "metrics": self.metrics(),
        }
        if self.kl_per_dimension is not None:
            record["kl_per_dimension"] = self.kl_per_dimension.tolist()
        if self.sigma is not None:
            sigma = self.sigma.float().cpu().clamp_max(LARGEST_SIGMA)
            record["sigma_histogram"] = {
                "edges": torch.linspace(0.0, LARGEST_SIGMA, BINS + 1).tolist(),
                "counts": torch.histc(sigma, BINS, 0.0, LARGEST_SIGMA).int().tolist(),
            }
        return record


@torch.no_grad()
def measure_collapse(
    model: GaussianVAE,
    q: Posterior,
    x: Float[Tensor, "N D"],
    *,
    squared_error: Float[Tensor, " N"],
    linear_error: float,
    autoencoder_error: float | None = None,
    beta: float = 1.0,
    held_out: tuple[Float[Tensor, " N"], Float[Tensor, "N components"]] | None = None,
    trend: str = "",
    steps: tuple[int, int] | None = None,
    advice: Advice | None = None,
) -> Collapse:
    """The diagnostics and the verdict, from the posteriors of the examples in the same order.

    Of a family without a density their Laplace approximations are taken. ``squared_error`` is
    E_q‖x − μ(z)‖² of each example, the other errors are those of :mod:`savi.evaluation.autoencoder`
    (an autoencoder whose error is not finite has diverged, and counts as none), and ``beta`` is the
    weight of the KL term in training. ``held_out`` are the ELBO of each example and its
    log-likelihood with 0, 1, … principal components, ``trend`` is what
    :func:`savi.evaluation.trend.still_rising` says, ``steps`` are those of :class:`Evidence`, and
    ``advice`` knows the run's settings.
    """
    kl, variance = q.kl_per_dimension().mean(dim=0), model.gamma
    used = active_units(q.mean)
    gamma = variance()
    if autoencoder_error is not None and not math.isfinite(autoencoder_error):
        autoencoder_error = None
    at_floor = (gamma <= AT_FLOOR * variance.floor).double().mean() if variance.free else 0.0
    evidence = Evidence(
        latent_dim=model.latent_dim,
        dim=x.shape[1],
        pruned=model.latent_dim - used,
        gamma=float(gamma.double().mean()),
        gamma_optimum=float(squared_error.double().mean()) / x.shape[1],
        floored=float(at_floor),
        beta=beta,
        variance=float(x.double().var(dim=0, correction=0).mean()),
        error=error_at_mean(model, q, x),
        linear_error=linear_error,
        autoencoder_error=autoencoder_error,
        held_out=None if held_out is None else _held_out(*held_out, used),
        trend=trend,
        steps=steps,
    )
    return Collapse(kl, q.variance.sqrt(), evidence.pruned, evidence, judge(evidence, advice))


@torch.no_grad()
def usage(q: Posterior, model: VAE) -> Collapse:
    """The diagnostics without a cause: of a model without a γ, another prior, or a flow.

    The kinds are told apart by γ and by squared errors, and by what goes back to the prior.

    Args:
        q: the posteriors of the examples.
        model: p(x, z).
    """
    d, standard = q.mean.shape[-1], model.prior.standard and q.closed_kl
    pruned = d - active_units(q.mean)
    why = (
        "told apart by the variance γ, principal components and an autoencoder's squared error, "
        f"none of which means the same for model.likelihood '{model.likelihood.name}'"
        if standard
        else f"those of a model with the prior N(0, I), and not of model.prior '{model.prior.name}'"
        if q.closed_kl
        else "those of a Gaussian posterior, and not of a flow"
    )
    if pruned == 0:
        verdict = Verdict("none", f"All {d} latent dimensions are in use.")
    else:
        are = "is" if pruned == 1 else "are"
        verdict = Verdict(
            "undecided",
            f"{pruned} of {d} latent dimensions {are} pruned; why was not judged: the kinds are "
            f"{why}.",
        )
    if not standard:
        return Collapse(None, None, pruned, None, verdict)
    return Collapse(q.kl_per_dimension().mean(dim=0), q.variance.sqrt(), pruned, None, verdict)


def _held_out(
    elbo: Float[Tensor, " N"], components: Float[Tensor, "N components"], used: int
) -> HeldOut:
    """The best number of components up to those that the VAE uses, and of all, on the average."""
    components = components.double()
    means = components.mean(dim=0)
    few, most = int(means[: used + 1].argmax()), int(means.argmax())
    gain = components[:, most] - components[:, few]
    return HeldOut(
        elbo=float(elbo.double().mean()),
        none=float(means[0]),
        used=float(means[few]),
        most=float(means[most]),
        error=float(gain.std()) / math.sqrt(len(gain)) if len(gain) > 1 else math.inf,
    )


@torch.no_grad()
def error_at_mean(model: GaussianVAE, q: Posterior, x: Float[Tensor, "N D"]) -> float:
    """(1/nD) Σ ‖x − μ(m)‖² with m the posterior mean."""
    squares = [
        (x[part] - model.mean_rows(q.mean, part)).square().double().sum()
        for part in example_slices(len(x), x.shape[1])
    ]
    return float(torch.stack(squares).sum()) / x.numel()


def used_units(means: Float[Tensor, "N d"]) -> Bool[Tensor, " d"]:
    """Which latent dimensions have a posterior mean with a variance above 0.01 over the data.

    Whatever counts used, active or pruned units asks here.
    """
    return means.var(dim=0, correction=0) > ACTIVE_VARIANCE


def active_units(means: Float[Tensor, "N d"]) -> int:
    """How many latent dimensions are used."""
    return int(used_units(means).sum())
