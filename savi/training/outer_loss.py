"""The outer loss: what training minimises over θ (the decoder and γ) and φ (the encoder)."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from savi.inner.noise import NoiseSchedule, antithetic_noise
from savi.training.encoder_losses import EncoderObjective, OuterBatch
from savi.training.inference import Inference, SemiAmortizedInference
from savi.vae.elbo import Bound, elbo
from savi.vae.model import GaussianVAE


@dataclass(frozen=True)
class OuterStep:
    """The loss of a batch, and what it was computed from."""

    loss: Float[Tensor, ""]
    bound: Bound
    inference: Inference


@dataclass(frozen=True)
class OuterLoss:
    """−(1/B) Σ_b L(θ, λK; x_b) with noise of its own, plus the weighted encoder losses.

    It changes nothing: calling it twice with the same noise gives the same loss.

    Attributes:
        model: the generative model, θ.
        inference: x ↦ λK, with φ.
        encoder_objective: the encoder losses, and the factor on what flows through the solve.
        samples: S, the samples of the bound.
        free_bits: the free bits of the KL term (nats per dimension).
    """

    model: GaussianVAE
    inference: SemiAmortizedInference
    encoder_objective: EncoderObjective
    samples: int
    free_bits: float

    def __call__(
        self,
        x: Float[Tensor, "B D"],
        beta: float,
        *,
        inner_noise: NoiseSchedule | None = None,
        outer_noise: Float[Tensor, "S B d"] | None = None,
        init: Float[Tensor, "B P"] | None = None,
    ) -> OuterStep:
        """The loss of a batch.

        Args:
            x: the observations.
            beta: the weight of the KL term.
            inner_noise: the noise of the inner problem; drawn from the global source by default.
            outer_noise: the noise of the bound; drawn from the global source by default.
            init: λ0; the encoder's, or the prior's, by default.
        """
        inference = self.inference(
            self.model,
            x,
            max_steps=self.inference.max_steps,
            beta=beta,
            through=self.encoder_objective.through,
            noise=inner_noise,
            init=init,
        )
        family = self.inference.family
        q = family.distribution(inference.value, self.model, beta)
        if outer_noise is None:
            outer_noise = antithetic_noise(self.samples, q.mean.detach())
        bound = elbo(self.model, q, x, outer_noise)
        batch = OuterBatch(self.model, family, x, inference, outer_noise, beta, self.free_bits)
        loss = -bound.objective(beta, self.free_bits) + self.encoder_objective(batch)
        return OuterStep(loss, bound, inference)
