"""What is known without a graph of a family whose ELBO has a Gauss–Newton matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, cast

import torch
from jaxtyping import Float
from torch import Tensor

from savi.types import Blocks, Codes, Rows, Samples
from savi.vae.families.base import PosteriorFamily
from savi.vae.model import VAE, jacobian

Jacobians: TypeAlias = Float[Tensor, "S B d P"]


class ClosedFormFamily(PosteriorFamily):
    """A family whose ELBO has a Gauss–Newton matrix: what that needs is known without a graph.

    Its λ begins with the mean of q, and all mixed second derivatives of z(λ, ε) and of the KL term
    are 0. The derivatives are those of autograd where the family has no closed form of its own.
    """

    closed_form = True

    def mean(self, lam: Rows, model: VAE) -> Codes:
        """The first d numbers of λ."""
        return lam[:, : self.latent_dim]

    def scale_times(self, gradient: Rows, factor: float) -> Rows:
        """A gradient in λ of which all but the mean's part is multiplied."""
        by_mean, by_scale = gradient.tensor_split([self.latent_dim], dim=-1)
        return torch.cat([by_mean, factor * by_scale], dim=-1)

    def samples(self, lam: Rows, noise: Samples) -> Samples:
        """z(λ, ε)."""
        return self.distribution(lam, cast(VAE, None)).rsample(noise)

    def sample_jacobian(self, lam: Rows, noise: Samples) -> Jacobians:
        """∂z/∂λ of the reparameterised sample z(λ, ε)."""
        return jacobian(lambda at: self.samples(at, noise), lam).mT

    def push_forward(self, lam: Rows, noise: Samples, v: Rows) -> Samples:
        """(∂z_s/∂λ) v for every sample: how they move with λ."""
        return (self.sample_jacobian(lam, noise) @ v.unsqueeze(-1)).squeeze(-1)

    def pull_back(self, lam: Rows, noise: Samples, c: Samples) -> Rows:
        """(1/S) Σ_s (∂z_s/∂λ)ᵀ c_s: from the gradient in the samples to that in λ."""
        return _slope(lambda at: (c * self.samples(at, noise)).sum() / len(c), lam)

    def pull_back_curvature(
        self, lam: Rows, noise: Samples, matrix: Float[Tensor, "#S B d d"]
    ) -> Blocks:
        """(1/S) Σ_s A_sᵀ M_s A_s with A_s = ∂z_s/∂λ, for symmetric M_s."""
        a = self.sample_jacobian(lam, noise)
        return (a.mT @ matrix @ a).mean(dim=0)

    def bending(self, lam: Rows, noise: Samples, c: Samples) -> Rows:
        """(1/S) Σ_s c_sᵀ ∂²z_s/∂λ²: what the bending of the samples adds to the curvature."""
        return _slope(lambda at: self.pull_back(at, noise, c).sum(), lam)

    def kl_gradient(self, lam: Rows) -> Rows:
        """∇_λ KL(q_λ ‖ N(0, I)); of ½‖z‖² for a MAP family."""
        model = cast(VAE, None)
        return _slope(lambda at: self.distribution(at, model).kl_per_dimension().sum(), lam)

    def kl_curvature(self, lam: Rows) -> Rows:
        """The diagonal of ∇²_λ KL(q_λ ‖ N(0, I)), whose off-diagonal entries are all 0."""
        return _slope(lambda at: self.kl_gradient(at).sum(), lam)


def _slope(f: Callable[[Tensor], Tensor], lam: Rows) -> Rows:
    """∇f(λ), with a graph where gradients are enabled; 0 where f does not depend on λ."""
    differentiable = torch.is_grad_enabled()
    with torch.enable_grad():
        at = lam.clone() if lam.requires_grad else lam.detach().requires_grad_()
        value = f(at)
        if not value.requires_grad:
            return torch.zeros_like(lam)
        (slope,) = torch.autograd.grad(value, at, create_graph=True, materialize_grads=True)
    return slope if differentiable else slope.detach()
