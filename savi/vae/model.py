"""The generative model p(x, z): a prior, a decoder, and the likelihood of its outputs."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from savi.types import Codes, Index, Observations, PerSample, Samples, Scalar
from savi.vae.gram import SharedPass, closed_gram, has_closed_gram
from savi.vae.likelihoods import GaussianLikelihood, Likelihood
from savi.vae.networks.conditional import ConditionalDecoder, Given
from savi.vae.perceptron import Perceptron
from savi.vae.priors import Prior, StandardPrior
from savi.vae.variance import ObservationVariance

#: β, the weight of the KL term: a number, or a scalar tensor that may have a graph.
KLWeight = float | Scalar


class VAE(nn.Module):
    """p(z), N(0, I_d) unless another one is given, and p_θ(x|z) = p(x|o_θ(z)).

    Of a conditional decoder it is p(x|o_θ(z, c)). A context c belongs to an example, and lies in
    the row that stands for it: behind its entries, or the row is the context
    (:mod:`savi.vae.networks.conditional`). :meth:`given` some rows, a conditional model is a
    function of their codes as any other is of all codes.

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
        #: In a list, which the model has in common with all that it is :meth:`given`.
        self._evaluations = [0]
        self.shared = SharedPass()

    @property
    def decoder_evaluations(self) -> int:
        """The latent codes decoded so far."""
        return self._evaluations[0]

    @decoder_evaluations.setter
    def decoder_evaluations(self, count: int) -> None:
        self._evaluations[0] = count

    def given(self, x: Observations) -> Self:
        """The model of these examples: itself, unless its decoder is given something of them.

        What is drawn for a context, such as the words that are dropped, is drawn here, once.
        """
        decoder = self.decoder
        if isinstance(decoder, Given):
            if decoder.x is x:
                return self
            decoder = decoder.decoder
        if not isinstance(decoder, ConditionalDecoder):
            return self
        return self._with(Given(decoder, x))

    @property
    def autoregressive(self) -> bool:
        """Whether the decoder is given x itself, of which an output sees what comes before it."""
        decoder = self.decoder.decoder if isinstance(self.decoder, Given) else self.decoder
        return isinstance(decoder, ConditionalDecoder) and decoder.autoregressive

    def _with(self, decoder: nn.Module) -> Self:
        """The same parameters and counts, with another decoder made of this one."""
        made = copy(self)
        vars(made)["_modules"] = {**self._modules, "decoder": decoder}
        return made

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
        return self._rows(rows).decode(z[:, rows])

    def mean_rows(self, z: Codes, rows: Index | slice) -> Float[Tensor, "K D"]:
        """E[x|z] for some of the examples."""
        return self._rows(rows).mean(z[rows])

    def _rows(self, rows: Index | slice) -> Self:
        """Of some of the examples."""
        return self._with(self.decoder.rows(rows)) if isinstance(self.decoder, Given) else self

    def log_joint(self, x: Observations, z: Samples) -> PerSample:
        """The values of log p(x, z) = log p(x|z) + log p(z) in nats."""
        log_likelihood, _ = self.likelihood(x, self.given(x).decode(z))
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
        return self.likelihood.fisher_times(outputs, rows) @ rows.mT

    def precision(self, z: Codes, beta: KLWeight = 1.0) -> Float[Tensor, "B d d"]:
        """Λ = I + JᵀFJ/β, the Gauss–Newton precision of the posterior at z.

        Of another prior than N(0, I) its own precision takes the place of I.
        """
        return self.prior.precision(z) + self.gram(z) / beta

    @torch.no_grad()
    def draw(
        self,
        z: Float[Tensor, "B d"],
        generator: torch.Generator | None,
        like: Float[Tensor, "B E"] | None = None,
    ) -> Float[Tensor, "B E"]:
        """An x ~ p(x|z) for each code; a conditional model is given the contexts of rows ``like``.

        An autoregressive one draws one entry after the other, of sequences as long as those are;
        without a ``generator`` it takes the most probable one, and others take the mean.
        """
        if like is None:
            return self.likelihood.drawn(self.decode(z), generator)
        model = self.given(like)
        if not model.autoregressive:
            drawn = self.likelihood.drawn(model.decode(z), generator)
            return torch.cat([drawn, like[:, drawn.shape[1] :]], dim=-1)
        x = like.clone()
        for i in range(x.shape[1]):
            drawn = self.likelihood.drawn(self.given(x).decode(z), generator)
            # What is padding stays so.
            x = x.index_copy(1, torch.tensor([i], device=x.device), drawn[:, i : i + 1])
            x = torch.where(like < 0, like, x)
        return x

    def sample(
        self,
        n: int,
        generator: torch.Generator | None = None,
        like: Float[Tensor, "n E"] | None = None,
    ) -> Float[Tensor, "n D"]:
        """The means E[x|z] at n codes drawn from the prior (observation noise is not added).

        A conditional model is given the contexts of n rows ``like``; of an autoregressive one there
        are no means, and x is drawn.
        """
        reference = next(self.decoder.parameters())
        z = self.prior.sample(n, generator, reference.dtype)
        model, z = self if like is None else self.given(like), z.to(reference.device)
        if like is not None and model.autoregressive:
            return self.draw(z, generator or torch.default_generator, like)
        return model.mean(z)


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
