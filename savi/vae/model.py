"""The generative model p(x, z): a prior, a decoder, and the likelihood of its outputs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from savi.types import Codes, Index, Observations, PerSample, Samples, Scalar
from savi.vae.gram import SharedPass, closed_gram, has_closed_gram
from savi.vae.likelihoods import GaussianLikelihood, Likelihood
from savi.vae.perceptron import Perceptron
from savi.vae.priors import Prior, StandardPrior
from savi.vae.variance import ObservationVariance

#: β, the weight of the KL term: a number, or a scalar tensor that may have a graph.
KLWeight = float | Scalar


class VAE(nn.Module):
    """p(z), N(0, I_d) unless another one is given, and p_θ(x|z) = p(x|o_θ(z)).

    Args:
        decoder: o_θ, maps [..., d] to [..., D].
        likelihood: p(x|o).
        latent_dim: d.
        prior: p(z).

    Attributes:
        decoder_evaluations: latent codes decoded so far, tangents included: the measure of cost
            that does not depend on the machine.
        shared: tangents that two parts of an outer step need.
        models: how many models this one stands for, whose batches follow each other.
    """

    models = 1

    def __init__(
        self,
        decoder: nn.Module,
        likelihood: Likelihood,
        latent_dim: int,
        prior: Prior | None = None,
    ) -> None:
        super().__init__()
        self.decoder = decoder
        self.prior = StandardPrior(latent_dim, likelihood.dim) if prior is None else prior
        self.likelihood = likelihood
        self.latent_dim = latent_dim
        self.decoder_evaluations = 0
        self.shared = SharedPass()

    def decode(self, z: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch D"]:
        """o_θ(z), of a Gaussian likelihood the mean μ_θ(z)."""
        # A compiled graph would be compiled again for every value of the counter.
        if not torch.compiler.is_compiling():
            self.decoder_evaluations += z.shape[:-1].numel()
        return self.decoder(z)

    def mean(self, z: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch D"]:
        """E[x|z]."""
        return self.likelihood.mean(self.decode(z))

    def decode_rows(self, z: Samples, rows: Index) -> Float[Tensor, "S K D"]:
        """o_θ(z) for some of the examples."""
        return self.decode(z[:, rows])

    def log_joint(self, x: Observations, z: Samples) -> PerSample:
        """The values of log p(x, z) = log p(x|z) + log p(z) in nats."""
        log_likelihood, _ = self.likelihood(x, self.decode(z))
        return log_likelihood + self.prior.log_prob(z)

    def gram(self, z: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d d"]:
        """JᵀFJ at z, with J the decoder's Jacobian and F the Fisher weight of its outputs.

        F is Γ⁻¹ of a Gaussian likelihood. All d tangents are computed at once.
        """
        self.decoder_evaluations += (self.latent_dim + 1) * z.shape[:-1].numel()
        gamma = self.likelihood.equal_variance()
        if gamma is None:
            return self._gram_by_outputs(z)
        chain = Perceptron.of(self.decoder)
        if chain is not None and has_closed_gram(chain):
            codes = z.reshape(-1, z.shape[-1])
            return closed_gram(chain, codes, gamma, self.shared).reshape(*z.shape, z.shape[-1])
        rows = jacobian(self.decoder, z)
        return (rows / gamma.unsqueeze(-2)) @ rows.mT

    def _gram_by_outputs(self, z: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d d"]:
        """The same where F depends on the outputs."""
        chain = Perceptron.of(self.decoder)
        if chain is not None and has_closed_gram(chain) and not torch.is_grad_enabled():
            passed = chain(z)
            rows, outputs = passed.jacobian(), passed.value
        else:
            rows, outputs = jacobian(self.decoder, z), self.decoder(z)
        return (rows * self.likelihood.fisher(outputs).unsqueeze(-2)) @ rows.mT

    def precision(self, z: Codes, beta: KLWeight = 1.0) -> Float[Tensor, "B d d"]:
        """Λ = I + JᵀFJ/β, the Gauss–Newton precision of the posterior at z.

        Of another prior than N(0, I) its own precision takes the place of I.
        """
        return self.prior.precision(z) + self.gram(z) / beta

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n D"]:
        """The means E[x|z] at n codes drawn from the prior (observation noise is not added)."""
        reference = next(self.decoder.parameters())
        z = self.prior.sample(n, generator, reference.dtype)
        return self.mean(z.to(reference.device))


class GaussianVAE(VAE):
    """p(z) = N(0, I_d) or another, p_θ(x|z) = N(μ_θ(z), γ I_D) (Dai, Wang and Wipf 2019).

    Args:
        decoder: μ_θ, maps [..., d] to [..., D].
        gamma: the observation variance.
        latent_dim: d.
        prior: p(z).
    """

    likelihood: GaussianLikelihood

    def __init__(
        self,
        decoder: nn.Module,
        gamma: ObservationVariance,
        latent_dim: int,
        prior: Prior | None = None,
    ) -> None:
        super().__init__(decoder, GaussianLikelihood(gamma), latent_dim, prior)

    @property
    def gamma(self) -> ObservationVariance:
        """The module that yields γ."""
        return self.likelihood.gamma


def jacobian(
    network: Callable[[Tensor], Tensor], z: Float[Tensor, "*batch d"]
) -> Float[Tensor, "*batch d F"]:
    """Jᵀ: row i is the derivative of the network's output in z_i, by forward mode."""
    one_hots = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)

    def tangent(direction: Tensor) -> Tensor:
        return torch.func.jvp(network, (z,), (direction.expand_as(z),))[1]

    return torch.func.vmap(tangent, out_dims=-2)(one_hots)
