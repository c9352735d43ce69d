"""The outer loss: what training minimises over θ (the decoder and γ) and φ (the encoder)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from savi.errors import Conflict, refuse
from savi.inference.encoder_losses import EncoderObjective, OuterBatch
from savi.inference.semi_amortized import Inference, SemiAmortizedInference
from savi.inference.trusted_step import failed, kept_at_start
from savi.inner.loop import JUDGED, MEASURED, TRUSTED
from savi.types import Index
from savi.vae.distributions import (
    NoiseSchedule,
    Posterior,
    antithetic_noise,
    independent_noise,
)
from savi.vae.elbo import Bound, elbo_of
from savi.vae.importance_bound import importance_weighted_bound
from savi.vae.model import VAE, KLWeight

#: What the outer loss maximises: L, the importance-weighted bound, and that by another gradient.
OUTER_OBJECTIVES = ELBO, IWAE, DREG = "elbo", "iwae", "dreg"


def check_objective(
    model: Mapping[str, Any], inference: SemiAmortizedInference, tuned: bool = False
) -> None:
    """Refuse what importance weights have no place for.

    Args:
        model: the ``model`` group.
        inference: the run's.
        tuned: whether hyperparameters are tuned.

    Raises:
        InputError: for the first setting.
    """
    kl, family = model["kl"], inference.family
    weighed = "which the weights p(x, z)/q(z|x) have no place for"
    conflicts = [
        Conflict(
            not family.has_density, f"posterior '{family.name}'", "posterior=laplace",
            "which has no density",
        ),
        Conflict(
            kl["weight"] != 1.0, f"model.kl.weight {kl['weight']}", "model.kl.weight=1", weighed
        ),
        Conflict(
            kl["warmup_steps"] > 0, "model.kl.warmup_steps", "model.kl.warmup_steps=0", weighed
        ),
        Conflict(kl["free_bits"] > 0, "model.kl.free_bits", "model.kl.free_bits=0", weighed),
        Conflict(
            tuned, "hypergradient.tune", "hypergradient.tune=[]",
            "by which the validation ELBO is to rise",
        ),
    ]  # fmt: skip
    # Runs of versions without another objective can still be evaluated.
    if (objective := model.get("objective", ELBO)) != ELBO:
        refuse(f"model.objective '{objective}'", conflicts, "model.objective=elbo")


@dataclass(frozen=True)
class OuterStep:
    """The loss of a batch, and what it was computed from."""

    loss: Float[Tensor, ""]
    bound: Bound
    inference: Inference


@dataclass(frozen=True)
class OuterLoss:
    """−(1/B) Σ_b L(θ, λK; x_b) with noise of its own, plus the weighted encoder losses.

    With a weight decay also ½ wd ‖w‖², w = (θ, φ): an L2 penalty is part of what is minimised, as
    the decoupled decay of AdamW is not.

    It changes nothing: calling it twice with the same noise gives the same loss.

    In place of L it may have the importance-weighted bound of its samples, with its own gradient or
    the doubly reparameterised one: the refined q is their proposal.

    Attributes:
        model: the generative model, θ.
        inference: x ↦ λK, with φ.
        encoder_objective: the encoder losses, and the factor on what flows through the solve.
        samples: S, the samples of the bound.
        free_bits: the free bits of the KL term (nats per dimension).
        weight_decay: wd, the weight of the penalty.
        objective: which bound is maximised, one of :data:`OUTER_OBJECTIVES`.
    """

    model: VAE
    inference: SemiAmortizedInference
    encoder_objective: EncoderObjective
    samples: int
    free_bits: float
    weight_decay: float | Float[Tensor, ""] = 0.0
    objective: str = ELBO

    def __call__(
        self,
        x: Float[Tensor, "B D"],
        beta: KLWeight,
        *,
        inner_noise: NoiseSchedule | None = None,
        outer_noise: Float[Tensor, "S B d"] | None = None,
        init: Float[Tensor, "B P"] | None = None,
        measured: bool = True,
        refine: bool = True,
    ) -> OuterStep:
        """The loss of a batch.

        Args:
            x: the observations.
            beta: the weight of the KL term.
            inner_noise: the noise of the inner problem; drawn from the global source by default.
            outer_noise: the noise of the bound; drawn from the global source by default.
            init: λ0; the encoder's, or the prior's, by default.
            measured: whether the solution's figures are asked for where its last step is taken on
                trust.
            refine: whether λ0 is refined; if not, the loss is −(1/B) Σ_b L(θ, λ0; x_b), a plain
                VAE's, from which the encoder learns without any loss of its own.
        """
        on_trust, model = self.inference.last_step != JUDGED, self.model.given(x)
        inference = self.inference(
            model,
            x,
            max_steps=self.inference.max_steps if refine else 0,
            beta=beta,
            through=self.encoder_objective.through if refine else 1.0,
            noise=inner_noise,
            init=init,
            last_step=(MEASURED if measured else TRUSTED) if on_trust else JUDGED,
        )
        family = self.inference.family
        # The implicit function theorem asks for a Hessian at the codes of a Laplace covariance.
        with model.shared.keeping(self.inference.backend.name == "ift"):
            q = family.distribution(inference.value, model, beta)
        if outer_noise is None:
            outer_noise = self.draw_noise(q.mean.detach())
        z = q.rsample(outer_noise)
        decoded = model.decode(z)
        if on_trust and inference.solution is not None:
            rows = failed(model, q, x, z, decoded, inference, beta)
            if len(rows) > 0:
                inference = kept_at_start(inference, rows)
                q = family.distribution(inference.value, model, beta)
                z = q.rsample(outer_noise)
                # Of DReG the gradient in all z is to be scaled.
                again = self.objective == DREG
                decoded = model.decode(z) if again else _decoded_again(model, z, decoded, rows)
        bound = self._bound(model, q, x, z, decoded)
        batch = OuterBatch(model, family, x, inference, outer_noise, beta, self.free_bits)
        loss = -bound.objective(beta, self.free_bits)
        if refine:
            loss = loss + self.encoder_objective(batch)
        return OuterStep(loss + self._penalty(), bound, inference)

    def draw_noise(
        self, like: Float[Tensor, "B d"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "S B d"]:
        """The noise of the bound for codes like these."""
        draw = antithetic_noise if self.objective == ELBO else independent_noise
        return draw(self.samples, like, generator)

    def _bound(
        self,
        model: VAE,
        q: Posterior,
        x: Float[Tensor, "B D"],
        z: Float[Tensor, "S B d"],
        decoded: Float[Tensor, "S B D"],
    ) -> Bound:
        if self.objective == ELBO:
            return elbo_of(model, q, x, z, decoded)
        doubly = self.objective == DREG
        return importance_weighted_bound(model, q, x, z, decoded, doubly=doubly)

    def _penalty(self) -> float | Float[Tensor, ""]:
        if isinstance(self.weight_decay, float) and self.weight_decay == 0.0:
            return 0.0
        weights = chain(self.model.parameters(), self.inference.parameters())
        return 0.5 * self.weight_decay * sum(w.square().sum() for w in weights)


def _decoded_again(
    model: VAE, z: Float[Tensor, "S B d"], decoded: Float[Tensor, "S B D"], rows: Index
) -> Float[Tensor, "S B D"]:
    """The codes z decoded, of which only these examples differ from those in ``decoded``."""
    if not torch.isfinite(decoded[:, rows]).all():
        # What is infinite has no part in the loss, and yet no finite derivative.
        return model.decode(z)
    return decoded.index_copy(1, rows, model.decode_rows(z, rows))
