"""log p(x|z) together with what of another prior than N(0, I) has no closed form."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from savi.types import Codes, Index
from savi.vae.data_fit import DataFit, Points, Values
from savi.vae.model import KLWeight


class TiltedFit(DataFit):
    """z ↦ log p(x|z) + β r(z) with r(z) = log p(z) − log N(z; 0, I).

    Whatever knows log p(x|z) and adds β log N(z; 0, I) itself, in closed form or not, is then about
    the prior p.

    Args:
        fit: z ↦ log p(x|z).
        beta: β.
    """

    def __init__(self, fit: DataFit, beta: KLWeight) -> None:
        self.fit, self.beta, self.prior = fit, beta, fit.model.prior
        self.model, self.network, self.terms = fit.model, fit.network, fit.terms
        self.chain, self.first, self.smooth = fit.chain, fit.first, False

    def rows(self, index: Index) -> TiltedFit:
        """Of some of the examples."""
        return TiltedFit(self.fit.rows(index), self.beta)

    def __call__(self, z: Points) -> Values:
        """The values, for autograd."""
        return self.fit(z) + self.beta * self.prior.log_ratio(z)

    @torch.no_grad()
    def gradient(self, z: Points) -> tuple[Values, Points]:
        """The values and ∇_z without a graph."""
        value, slope = self.fit.gradient(z)
        return (
            value + self.beta * self.prior.log_ratio(z),
            slope + self.beta * (self.prior.score(z) + z),
        )

    @torch.no_grad()
    def second_order(self, z: Points) -> tuple[Points, Float[Tensor, "*S B d d"]]:
        """∇_z and ∇²_z of the negative, without a graph."""
        slope, hessian = self.fit.second_order(z)
        identity = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
        return (
            slope - self.beta * (self.prior.score(z) + z),
            hessian - self.beta * (self.prior.hessian(z) + identity),
        )

    def rough(self, z: Points, dtype: torch.dtype) -> None:
        """Nothing is known but the exact Hessian."""

    def gram(self, z: Codes) -> Float[Tensor, "B d d"]:
        """JᵀFJ and β times the precision of the whole prior, N(0, I) included."""
        return self.fit.gram(z) + self.beta * self.prior.precision(z)


def tilted(fit: DataFit, beta: KLWeight = 1.0) -> DataFit:
    """The fit with the model's prior; itself for N(0, I)."""
    return fit if fit.model.prior.standard else TiltedFit(fit, beta)
