"""The inner objectives of a VAE: one deterministic problem per example, sums over nothing."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from savi.inner.noise import NoiseSchedule
from savi.inner.objective import InnerObjective
from savi.vae.families import PosteriorFamily
from savi.vae.model import GaussianVAE

#: The objectives that configs can name, and what each minimises over λ.
OBJECTIVES = {
    "elbo": "−L(θ, λ; x)",
    "proximal": "−L(θ, λ; x) + ρ/2 ‖λ − λ0‖²",
    "trust_region": "−L(θ, λ; x) subject to ‖λ − λ0‖ ≤ r",
    "map": "−log p(x, z), for the families whose λ is z",
}


class NegativeELBO(InnerObjective):
    """J(λ) = −E_q log p(x|z) + β KL(q_λ ‖ p), with the noise of the expectation held fixed.

    For the families ``point_mass`` and ``laplace`` λ is a code z and there is no noise: J is the
    MAP objective −log p(x|z) + β/2 ‖z‖² up to a constant.

    Its curvature is Gauss–Newton: C = (1/S) Σ_s A_sᵀ G A_s + diag(b) + β diag(∇²KL) with
    A_s = ∂z_s/∂λ and G = JᵀJ/γ taken once, at the mean of q. What Gauss–Newton in λ misses is
    that z(λ, ε) bends, half of the curvature in a log variance: b is the positive part of
    (1/S) Σ_s g_sᵀ ∂²z_s/∂λ² with g_s = G (z_s − mean). C is positive definite, and for an affine
    decoder and antithetic noise it is the exact Hessian wherever b loses nothing.

    Args:
        model: the generative model.
        family: the posterior family of λ.
        x: the observations.
        noise: the noise of each inner step.
        beta: the weight of the KL term.
        stochastic: whether ``noise`` differs between steps.
        step: the inner step whose noise is used.
    """

    gauss_newton = True

    def __init__(
        self,
        model: GaussianVAE,
        family: PosteriorFamily,
        x: Float[Tensor, "B D"],
        noise: NoiseSchedule,
        *,
        beta: float = 1.0,
        stochastic: bool = False,
        step: int = 0,
    ) -> None:
        self.model, self.family, self.x, self.beta = model, family, x, beta
        self.stochastic = stochastic
        self._schedule, self._noise = noise, noise(step)

    def __call__(self, y: Float[Tensor, "B P"]) -> Float[Tensor, " B"]:
        """The negative ELBO of each example in nats (a constant less, for the MAP families)."""
        if self.family.is_map:
            z, penalty = y.unsqueeze(0), 0.5 * y.square().sum(dim=-1)
        else:
            q = self.family.distribution(y, self.model, self.beta)
            z, penalty = q.rsample(self._noise), q.kl_per_dimension().sum(dim=-1)
        log_likelihood, _ = self.model.likelihood(self.x, self.model.decode(z))
        return self.beta * penalty - log_likelihood.mean(dim=0)

    def rows(self, index: Int[Tensor, " R"]) -> InnerObjective:
        """The same for some of the examples."""
        return NegativeELBO(
            self.model,
            self.family,
            self.x[index],
            lambda step: self._schedule(step)[:, index],
            beta=self.beta,
            stochastic=self.stochastic,
        )

    def evaluated(self, y: Float[Tensor, "B P"]) -> None:
        """Count the codes that were decoded."""
        self.model.decoder_evaluations += len(y) * (1 if self.family.is_map else len(self._noise))

    def at_step(self, step: int) -> InnerObjective:
        """The same with that step's noise, if the noise is fresh."""
        if not self.stochastic:
            return self
        return NegativeELBO(
            self.model,
            self.family,
            self.x,
            self._schedule,
            beta=self.beta,
            stochastic=True,
            step=step,
        )

    def curvature(
        self, y: Float[Tensor, "B P"], create_graph: bool = False
    ) -> Float[Tensor, "B P P"]:
        """C, a constant of the graph unless ``create_graph``."""
        with torch.set_grad_enabled(create_graph):
            # Every family's λ begins with the mean of q.
            gram = self.model.gram(y[:, : self.family.latent_dim])
            prior = torch.diag_embed(self.beta * self.family.kl_curvature(y))
            if self.family.is_map:
                return gram + prior
            jacobian = self.family.sample_jacobian(y, self._noise)
            pulled = torch.einsum("sbip,bij,sbjq->bpq", jacobian, gram, jacobian)
            return (pulled + self._bending(y, gram)) / len(self._noise) + prior

    def _bending(self, y: Float[Tensor, "B P"], gram: Tensor) -> Float[Tensor, "B P P"]:
        """diag(b), summed over the samples."""
        z = self.family.distribution(y, self.model, self.beta).rsample(self._noise)
        gradient = torch.einsum("bij,sbj->sbi", gram, z - y[:, : self.family.latent_dim])
        second = self.family.sample_curvature(y, self._noise)
        return torch.diag_embed(torch.einsum("sbi,sbip->bp", gradient, second).clamp_min(0.0))
