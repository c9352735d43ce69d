"""The inner objectives of a VAE: one deterministic problem per example, sums over nothing."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from savi.inner.objective import OBJECTIVES, InnerObjective
from savi.inner.precision import short_products
from savi.linear.base import Rough
from savi.linear.dense import plus_diagonal
from savi.vae.data_fit import DataFit
from savi.vae.distributions import NoiseSchedule, standard_log_prob
from savi.vae.families import ClosedFormFamily, PosteriorFamily
from savi.vae.model import VAE, KLWeight
from savi.vae.short_format import short_format
from savi.vae.tilted_fit import tilted


@OBJECTIVES.register("elbo")
@OBJECTIVES.register("map")
def itself(base: InnerObjective, start: Float[Tensor, "B P"]) -> InnerObjective:
    """J itself: −L(θ, λ; x), which is −log p(x, z) for the families whose λ is z."""
    return base


class NegativeELBO(InnerObjective):
    """J(λ) = −E_q log p(x|z) + β KL(q_λ ‖ p), with the noise of the expectation held fixed.

    For the families ``point_mass`` and ``laplace`` λ is a code z and there is no noise: J is the
    MAP objective −log p(x|z) + β/2 ‖z‖² up to a constant.

    Its curvature is Gauss–Newton: C = (1/S) Σ_s A_sᵀ G A_s + diag(b) + β diag(∇²KL) with
    A_s = ∂z_s/∂λ and G = JᵀJ/γ taken once, at the mean of q. What Gauss–Newton in λ misses is
    that z(λ, ε) bends, half of the curvature in a log variance: b is the positive part of
    (1/S) Σ_s g_sᵀ ∂²z_s/∂λ² with g_s = G (z_s − mean). C is positive definite, and for an affine
    decoder and antithetic noise it is the exact Hessian wherever b loses nothing.

    With another prior than N(0, I) the KL term is that from N(0, I), less the mean of
    r(z) = log p(z) − log N(z; 0, I) over the samples (:mod:`savi.vae.tilted_fit`). G has the
    precision of the prior then, and nothing else of the KL term curves: the entropy of a Gaussian
    is linear in its log scales.

    A family that is no :class:`savi.vae.families.ClosedFormFamily` gets its exact Hessian instead,
    by autograd.

    Where log p(x|z) knows its derivatives (:class:`savi.vae.data_fit.DataFit`), so does J: ∇J and
    ∇²J without a graph need no autograd, and the graph of ∇J is that of its closed form.

    Args:
        model: the generative model.
        family: the posterior family of λ.
        x: the observations, or log p(x|z) as a function of the codes; the former are decoded to at
            every evaluation.
        noise: the noise of each inner step.
        beta: the weight of the KL term.
        stochastic: whether ``noise`` differs between steps.
        step: the inner step whose noise is used.
    """

    def __init__(
        self,
        model: VAE,
        family: PosteriorFamily,
        x: Float[Tensor, "B D"] | DataFit,
        noise: NoiseSchedule,
        *,
        beta: KLWeight = 1.0,
        stochastic: bool = False,
        step: int = 0,
    ) -> None:
        self.model, self.family, self.beta = model, family, beta
        self.stochastic = stochastic
        self._untilted = x if isinstance(x, DataFit) else DataFit.direct(model, x)
        self.fit = tilted(self._untilted, beta)
        self.gauss_newton = family.closed_form
        self.closed_gradient = family.closed_form and self.fit.first is not None
        self.closed_hessian = family.closed_form and self.fit.chain is not None
        self.has_fisher = not family.is_map
        self._schedule, self._noise = noise, noise(step)

    def __call__(self, y: Float[Tensor, "B P"]) -> Float[Tensor, " B"]:
        """The negative ELBO of each example in nats (a constant less, for the MAP families)."""
        z, penalty = self._codes(y)
        return self.beta * penalty - self.fit(z).mean(dim=0)

    def gradient(
        self, y: Float[Tensor, "B P"], create_graph: bool = False
    ) -> tuple[Float[Tensor, " B"], Float[Tensor, "B P"]]:
        """J(y), detached, and ∇J(y)."""
        if not self.closed_gradient or (create_graph and not self.fit.smooth):
            return super().gradient(y, create_graph)
        with torch.set_grad_enabled(create_graph):
            z, penalty = self._codes(y)
            log_likelihood, score = self.fit.gradient(z)
            by_codes = self._closed.pull_back(y, self._noise, score)
            gradient = torch.sub(self.beta * self._closed.kl_gradient(y), by_codes)
            return (self.beta * penalty - log_likelihood.mean(dim=0)).detach(), gradient

    def natural_gradient(
        self, y: Float[Tensor, "B P"], gradient: Float[Tensor, "B P"]
    ) -> Float[Tensor, "B P"]:
        """F(λ)⁻¹ g, with F the Fisher matrix of q_λ."""
        return self.family.natural_gradient(y, gradient)

    def natural_step(
        self,
        y: Float[Tensor, "B P"],
        gradient: Float[Tensor, "B P"],
        length: Float[Tensor, " B"],
        scale: float = 1.0,
    ) -> Float[Tensor, "B P"]:
        """A step against it that ends at a distribution."""
        if scale != 1.0:
            gradient = self._closed.scale_times(gradient, scale)
        return self.family.natural_step(y, gradient, length)

    @property
    def _closed(self) -> ClosedFormFamily:
        """The family, where its derivatives are known."""
        assert isinstance(self.family, ClosedFormFamily)
        return self.family

    def _codes(self, y: Float[Tensor, "B P"]) -> tuple[Float[Tensor, "S B d"], Float[Tensor, " B"]]:
        """The samples z(λ, ε), and KL(q_λ ‖ p) (½‖z‖² for the MAP families)."""
        if self.family.is_map:
            return y.unsqueeze(0), 0.5 * y.square().sum(dim=-1)
        q = self.family.distribution(y, self.model, self.beta)
        z, kl = q.rsample(self._noise), q.kl_per_dimension().sum(dim=-1)
        if not q.closed_kl:
            kl = kl + (q.log_reference(z) - standard_log_prob(z)).mean(dim=0)
        return z, kl

    def evaluated(self, y: Float[Tensor, "B P"]) -> None:
        """Count the codes that were decoded."""
        self.model.decoder_evaluations += len(y) * (1 if self.family.is_map else len(self._noise))

    def at_step(self, step: int) -> InnerObjective:
        """The same with that step's noise, if the noise is fresh."""
        return self._with(self._untilted, self._schedule, step) if self.stochastic else self

    def for_one_backward(self) -> InnerObjective:
        """With what a conditional decoder makes of its contexts made once."""
        return self._with(self._untilted.for_one_backward(), self._schedule, 0)

    def rows(self, index: Int[Tensor, " R"]) -> InnerObjective:
        """The same for some of the examples."""
        return self._with(
            self._untilted.rows(index), lambda step: self._schedule(step)[:, index], 0
        )

    def _with(self, fit: DataFit, noise: NoiseSchedule, step: int) -> NegativeELBO:
        return NegativeELBO(
            self.model,
            self.family,
            fit,
            noise,
            beta=self.beta,
            stochastic=self.stochastic,
            step=step,
        )

    def curvature(
        self, y: Float[Tensor, "B P"], create_graph: bool = False
    ) -> Float[Tensor, "B P P"]:
        """C, a constant of the graph unless ``create_graph``."""
        if not self.family.closed_form:
            return super().curvature(y, create_graph)
        with torch.set_grad_enabled(create_graph):
            gram = self.fit.gram(self.family.mean(y, self.model))
            standard = self.model.prior.standard
            prior = self.beta * self._closed.kl_curvature(y) if standard else torch.zeros_like(y)
            if self.family.is_map:
                return plus_diagonal(gram, prior)
            pulled = self._closed.pull_back_curvature(y, self._noise, gram.unsqueeze(0))
            return plus_diagonal(pulled, prior + self._bending(y, gram))

    def exact_curvature(
        self, y: Float[Tensor, "B P"], create_graph: bool = False
    ) -> Float[Tensor, "B P P"]:
        """∇²J = (1/S) Σ_s [A_sᵀ H_s A_s + diag(g_sᵀ ∂²z_s/∂λ²)] + β diag(∇²KL).

        Here g_s and H_s are the derivatives of −log p(x|z) at z_s.
        """
        if create_graph or not self.closed_hessian:
            return super().exact_curvature(y, create_graph)
        with torch.no_grad():
            slope, hessian = self.fit.second_order(self._codes(y)[0])
            pulled = self._closed.pull_back_curvature(y, self._noise, hessian)
            return plus_diagonal(pulled, self._diagonal(y, slope))

    def rough_curvature(self, y: Float[Tensor, "B P"]) -> Rough | None:
        """∇²J with H_s by a shorter type, where that is faster, and its exact products."""
        with short_products():
            dtype = short_format(y)
        if dtype is None or not self.closed_hessian:
            return None
        with torch.no_grad():
            found = self.fit.rough(self._codes(y)[0], dtype)
            if found is None:
                return None
            slope, hessian, by_codes = found
            pulled = self._closed.pull_back_curvature(y, self._noise, hessian)
            diagonal = self._diagonal(y, slope)
            gradient = self._closed.pull_back(y, self._noise, slope)
            gradient = gradient + self.beta * self._closed.kl_gradient(y)

        @torch.no_grad()
        def product(v: Tensor) -> Tensor:
            moved = self._closed.push_forward(y, self._noise, v)
            pulled_back = self._closed.pull_back(y, self._noise, by_codes(moved))
            return torch.addcmul(pulled_back, v, diagonal)

        return Rough(
            plus_diagonal(pulled, diagonal),
            product,
            lambda index: self.rows(index).exact_curvature(y[index]),
            gradient,
        )

    def _diagonal(self, y: Float[Tensor, "B P"], slope: Tensor) -> Float[Tensor, "B P"]:
        """What the bending of the samples and the KL term add to the curvature."""
        prior = self.beta * self._closed.kl_curvature(y)
        if self.family.is_map:
            return prior
        return prior + self._closed.bending(y, self._noise, slope)

    def _bending(self, y: Float[Tensor, "B P"], gram: Tensor) -> Float[Tensor, "B P"]:
        """The positive part b of what the bending of the samples adds."""
        z = self.family.distribution(y, self.model, self.beta).rsample(self._noise)
        gradient = torch.einsum("bij,sbj->sbi", gram, z - self.family.mean(y, self.model))
        return self._closed.bending(y, self._noise, gradient).clamp_min(0.0)
