"""Posterior families: how the variational parameters λ [B, P] become a distribution q(z|x)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from inspect import signature
from typing import ClassVar, cast

import torch
from jaxtyping import Float
from torch import Tensor

from savi.registry import Registry
from savi.types import Codes, PerExample, Rows
from savi.vae.distributions import Posterior
from savi.vae.model import VAE, KLWeight


class PosteriorFamily(ABC):
    """λ ↦ q_λ(z|x).

    A family needs P and a distribution: the derivatives of its ELBO are then those of autograd.
    One that is a dataclass declares its options as fields, the first of them ``latent_dim``.

    Attributes:
        name: the name in configs.
        num_params: P, the number of variational parameters of an example.
        has_density: whether q has a density (a point mass has none).
        is_map: whether λ is a latent code found by MAP inference.
        closed_form: whether it is a :class:`ClosedFormFamily`.
    """

    name: ClassVar[str]
    has_density: ClassVar[bool] = True
    is_map: ClassVar[bool] = False
    closed_form: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        """Let a ``distribution(self, lam)`` be called with a model and β, and ignore them."""
        own = vars(cls).get("distribution")
        if own is not None and len(signature(own).parameters) == 2:
            cls.distribution = lambda self, lam, *_: own(self, lam)  # type: ignore[method-assign]

    def __init__(self, latent_dim: int) -> None:
        self.latent_dim = latent_dim

    @property
    @abstractmethod
    def num_params(self) -> int:
        """P."""

    @abstractmethod
    def distribution(self, lam: Rows, model: VAE, beta: KLWeight = 1.0) -> Posterior:
        """q_λ. Only ``laplace`` looks at the model and at the weight β of the KL term."""

    def mean(self, lam: Rows, model: VAE) -> Codes:
        """The mean of q_λ."""
        return self.distribution(lam, model).mean

    def natural_gradient(self, lam: Rows, gradient: Rows) -> Rows:
        """F(λ)⁻¹ g, with F = ∇²_λ' KL(q_λ ‖ q_λ') at λ' = λ, the Fisher matrix of q_λ.

        By default F comes from autograd, for a distribution that does not look at the model.
        """
        differentiable = torch.is_grad_enabled() and (lam.requires_grad or gradient.requires_grad)
        with torch.enable_grad():
            moved = lam.clone() if lam.requires_grad else lam.detach().requires_grad_()
            q, other = (self.distribution(at, cast(VAE, None)) for at in (lam, moved))
            (slope,) = torch.autograd.grad(q.kl_to(other).sum(), moved, create_graph=True)
            rows = [
                torch.autograd.grad(column.sum(), moved, retain_graph=True, create_graph=True)[0]
                for column in slope.unbind(dim=-1)
            ]
            # An example whose F is singular gets a step that is not finite, and no other does.
            step, _ = torch.linalg.solve_ex(torch.stack(rows, dim=-2), gradient)
        return step if differentiable else step.detach()

    def natural_step(self, lam: Rows, gradient: Rows, length: PerExample) -> Rows:
        """A step of length α against the natural gradient: λ − α F(λ)⁻¹ g to first order in α."""
        return lam - length.unsqueeze(-1) * self.natural_gradient(lam, gradient)

    def prior_params(self) -> Float[Tensor, " P"]:
        """The λ at which q is the prior N(0, I), where inference without an encoder starts.

        For a MAP family, its mean. Zeros, unless a family says otherwise.
        """
        return torch.zeros(self.num_params)


POSTERIORS: Registry[type[PosteriorFamily]] = Registry(
    "posterior", supplied=1, base=PosteriorFamily
)
