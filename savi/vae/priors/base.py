"""What a prior p(z) gives, beside N(0, I), whose KL terms and curvatures have closed forms."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from savi.registry import Registry
from savi.vae.distributions import standard_log_prob

#: Codes of any leading dimensions, and a number or a matrix for each of them.
Points: TypeAlias = Float[Tensor, "*batch d"]
Values: TypeAlias = Float[Tensor, "*batch"]
Matrices: TypeAlias = Float[Tensor, "*batch d d"]


class Prior(nn.Module, ABC):
    """p(z), whose parameters are part of θ.

    A prior needs its log-density and its samples; the derivatives are then those of automatic
    differentiation. One that is given options takes them as arguments after ``data_dim``.

    Where another one than N(0, I) is chosen, KL(q ‖ p) = KL(q ‖ N(0, I)) − E_q r(z) with
    r(z) = log p(z) − log N(z; 0, I): the first term, and with it the entropy of q, stays in closed
    form, and the second is an average over the samples of q.

    Args:
        latent_dim: d.
        data_dim: D, the number of observed dimensions.

    Attributes:
        name: the name in configs.
        standard: whether it is N(0, I).
    """

    name: ClassVar[str]
    standard: ClassVar[bool] = False

    def __init__(self, latent_dim: int, data_dim: int) -> None:
        super().__init__()
        self.latent_dim, self.data_dim = latent_dim, data_dim

    @abstractmethod
    def log_prob(self, z: Points) -> Values:
        """The values of log p(z) in nats."""

    @abstractmethod
    def sample(
        self, n: int, generator: torch.Generator | None = None, dtype: torch.dtype | None = None
    ) -> Float[Tensor, "n d"]:
        """Codes drawn from p, on the generator's device; ``dtype`` is that of the noise."""

    def log_ratio(self, z: Points) -> Values:
        """The values of r(z) = log p(z) − log N(z; 0, I)."""
        return self.log_prob(z) - standard_log_prob(z)

    def score(self, z: Points) -> Points:
        """∇ log p(z)."""

        def total(z: Tensor) -> Tensor:
            return self.log_prob(z).sum()

        found: Tensor = torch.func.grad(total)(z)
        return found

    def hessian(self, z: Points) -> Matrices:
        """∇² log p(z)."""

        def along(direction: Tensor) -> Tensor:
            return torch.func.jvp(self.score, (z,), (direction.expand_as(z),))[1]

        one_hots = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
        rows: Tensor = torch.func.vmap(along, out_dims=-2)(one_hots)
        return rows

    def precision(self, z: Points) -> Matrices:
        """−∇² log p(z), or what stands for it in Gauss–Newton matrices and Laplace covariances.

        These have to be positive definite: a prior that is not log-concave has another one.
        """
        return -self.hessian(z)


#: Called with d and D; what follows are options, keys of the ``model`` group.
PRIORS: Registry[type[Prior]] = Registry("model.prior", supplied=2, base=Prior)
