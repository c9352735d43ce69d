"""What becomes of last steps that were taken on trust and lead far up: the outer bound tells."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from savi.inference.semi_amortized import Inference
from savi.inner.solution import Reason
from savi.types import Index, Observations, Samples
from savi.vae.distributions import Posterior
from savi.vae.elbo import kl_to_prior
from savi.vae.model import VAE, KLWeight
from savi.vae.variance import whole_batch

#: How many median absolute deviations an example's gain may lie below those of the others. Inner
#: and outer noise differ, so that most of what is below 0 is chance.
ALLOWED = 5.0


@torch.no_grad()
def failed(
    model: VAE,
    q: Posterior,
    x: Observations,
    z: Samples,
    decoded: Float[Tensor, "S B D"],
    inference: Inference,
    beta: KLWeight,
) -> Index:
    """The examples that their solve has left worse than the encoder's guess, beyond its noise.

    Those whose gain in the bound, L(θ, λK; x_b) + J_b(λ0), is :func:`outlying`. L is what training
    computes anyway, so that this costs no evaluation.

    Args:
        model: the generative model.
        q: q_λK.
        x: the observations.
        z: the samples of the outer bound.
        decoded: μ(z).
        inference: λ0 and λK.
        beta: the weight of the KL term.
    """
    log_likelihood, _ = model.likelihood(x, decoded)
    bound = log_likelihood.mean(dim=0) - beta * kl_to_prior(model, q, z)
    gain = (bound + inference.start.value).unflatten(0, (model.models, -1))
    return outlying(gain).flatten().nonzero().squeeze(-1)


def outlying(gain: Float[Tensor, "*R B"]) -> Bool[Tensor, "*R B"]:
    """Where it is not finite, or below min(0, m) − 5 median |gain − m|, m = median gain.

    Medians of the whole batch, of which every process of a data-parallel job holds a share.
    """
    known = whole_batch(torch.where(torch.isfinite(gain), gain, torch.nan))
    middle = known.nanmedian(dim=-1, keepdim=True).values
    spread = (known - middle).abs().nanmedian(dim=-1, keepdim=True).values
    least = middle.clamp_max(0.0) - ALLOWED * spread
    return ~((gain >= least) & torch.isfinite(gain))


def kept_at_start(inference: Inference, rows: Index) -> Inference:
    """The same with λK = λ0, a constant, for these examples, whose solve has diverged."""
    assert inference.solution is not None
    start = inference.start.y[rows].to(inference.value)
    reasons = torch.full_like(rows, int(Reason.ABOVE_START), dtype=inference.solution.reason.dtype)
    value = inference.value.index_copy(0, rows, start)
    solution = replace(
        inference.solution,
        value=value,
        reason=inference.solution.reason.index_copy(0, rows, reasons),
    )
    return replace(inference, value=value, solution=solution)
