"""The importance weight p(x, z)/q0(z) as a function of the noise that q0 is made of."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from savi.evaluation.hmc import Point
from savi.inner.precision import OrdinaryTensors
from savi.vae.data_fit import data_fit
from savi.vae.distributions import DiagonalGaussian, Posterior
from savi.vae.model import GaussianVAE


class WhitenedWeight:
    """u ↦ log w(u) = log p(x, z) − log q0(z) at z = m + T u, for q0 = N(m, TTᵀ).

    In these coordinates q0 is N(0, I), and the posterior is N(0, I) too if q0 is the posterior:
    the closer q0 is, the better one step size fits every direction. Where log p(x|z) has closed
    derivatives (:class:`savi.vae.data_fit.DataFit`), no autograd is needed.

    Args:
        model: p(x, z).
        x: the observations.
        q0: a Gaussian with a density.
        codes: how many evaluations are to be expected, of all examples together.

    Raises:
        InputError: for a q0 without a density.
    """

    def __init__(
        self, model: GaussianVAE, x: Float[Tensor, "B D"], q0: Posterior, codes: int
    ) -> None:
        self.mean, d = q0.mean, model.latent_dim
        # Samples are affine in their noise: the columns of T are the images of one-hot noise.
        one_hots = torch.eye(d, dtype=x.dtype, device=x.device)[:, None].expand(-1, len(x), -1)
        self._height = q0.log_prob(self.mean.unsqueeze(0))[0] + 0.5 * d * math.log(2.0 * math.pi)
        self._rows = (q0.rsample(one_hots) - self.mean).transpose(0, 1)  # Tᵀ, [B, d, d]
        self._fit = data_fit(model, x, self.mean, codes=codes)

    def __call__(self, u: Float[Tensor, "C B d"]) -> Point:
        """The value of log w, and Tᵀ∇_z log p(x, z) + u; a weight that is no number counts as 0."""
        z = self.mean + torch.einsum("bij,cbi->cbj", self._rows, u)
        log_likelihood, slope = self._log_likelihood(z)
        log_weight = log_likelihood + 0.5 * (u.square() - z.square()).sum(dim=-1) - self._height
        return Point(
            u,
            log_weight.where(~log_weight.isnan(), -torch.inf),
            torch.einsum("bij,cbj->cbi", self._rows, slope - z) + u,
        )

    def noise_of(self, z: Float[Tensor, "B d"]) -> Float[Tensor, "B d"]:
        """The u = T⁻¹(z − m) of codes."""
        return torch.linalg.solve(self._rows.mT, z - self.mean)

    def _log_likelihood(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The values of log p(x|z), and ∇_z log p(x|z)."""
        if self._fit.chain is not None:
            return self._fit.gradient(z)
        with torch.inference_mode(False), torch.enable_grad(), OrdinaryTensors():
            z = z.detach().clone().requires_grad_()
            log_likelihood = self._fit(z)
            (slope,) = torch.autograd.grad(log_likelihood.sum(), z)
        return log_likelihood.detach(), slope


def prior_of(model: GaussianVAE, x: Float[Tensor, "B D"]) -> DiagonalGaussian:
    """The prior N(0, I) of every example."""
    zeros = x.new_zeros(len(x), model.latent_dim)
    return DiagonalGaussian(zeros, zeros)
