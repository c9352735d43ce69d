"""R generative models as one, whose batch holds R batches one after another."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from savi.replicas.layout import Layout
from savi.vae.data_fit import DataFit
from savi.vae.model import GaussianLikelihood, GaussianVAE
from savi.vae.networks.stacked import stack_networks
from savi.vae.quadratic import PixelQuadratic
from savi.vae.variance import ObservationVariance


class StackedVariance(ObservationVariance):
    """The γ of R models, [R, 1, 1] or [R, 1, D].

    Args:
        variances: those of the models, which go on to be moved by what happens here.
    """

    def __init__(self, variances: Sequence[ObservationVariance]) -> None:
        first = variances[0]
        super().__init__(first.dim, 2.0 * first.floor, first.floor)
        self.variances = list(variances)
        # That their parameters are found as this module's.
        self.registered = nn.ModuleList(variances)

    def forward(self) -> Float[Tensor, "R 1 #D"]:
        """Their values."""
        return torch.stack([variance() for variance in self.variances]).unsqueeze(-2)

    def of_batch(self, squared_error: Float[Tensor, "R B"]) -> Float[Tensor, "R 1 #D"]:
        """Their values for the outer ELBO, each by its own batch."""
        pairs = zip(self.variances, squared_error, strict=True)
        return torch.stack([variance.of_batch(error) for variance, error in pairs]).unsqueeze(-2)

    def observe(self, squared_error: Float[Tensor, "R B"]) -> None:
        """Each learns from its own batch."""
        for variance, error in zip(self.variances, squared_error, strict=True):
            variance.observe(error)


class StackedLikelihood(GaussianLikelihood):
    """log p_r(x|z) for the rows x of every model r."""

    def __init__(self, gamma: StackedVariance, layout: Layout) -> None:
        super().__init__(gamma)
        self.layout = layout

    def forward(
        self, x: Float[Tensor, "N D"], mean: Float[Tensor, "S N D"], outer: bool = False
    ) -> tuple[Float[Tensor, "S N"], Float[Tensor, "S N"]]:
        """As that of a single model."""
        split, join = self.layout.split, self.layout.join
        log_likelihood, squared_error = super().forward(split(x), split(mean), outer)
        return join(log_likelihood, 0), join(squared_error, 0)


class StackedVAE(GaussianVAE):
    """p_r(x, z) for the rows of every model r; its weights are those of the models.

    Args:
        models: R models of one architecture.

    Attributes:
        layout: of whole batches.
    """

    def __init__(self, models: Sequence[GaussianVAE]) -> None:
        decoder = stack_networks([model.decoder for model in models])
        variance = StackedVariance([model.gamma for model in models])
        super().__init__(decoder, variance, models[0].latent_dim)
        self.layout = Layout(len(models))
        self.likelihood = StackedLikelihood(variance, self.layout)

    def decode(self, z: Float[Tensor, "*S N d"]) -> Float[Tensor, "*S N D"]:
        """μ_r(z)."""
        return self.layout.join(super().decode(self.layout.split(z)))

    def gram(self, z: Float[Tensor, "N d"]) -> Float[Tensor, "N d d"]:
        """JᵀΓ⁻¹J at z."""
        return self.layout.join(super().gram(self.layout.split(z)), 2)


class StackedFit(DataFit):
    """z ↦ log p_r(x|z) for the rows of every model r, by decoding to the data."""

    layout: Layout

    @classmethod
    def of(cls, model: StackedVAE, x: Float[Tensor, "N D"]) -> Self:
        """For a whole batch."""
        fit = cls(model, model.decoder, PixelQuadratic(model.layout.split(x), model.gamma()))
        fit.layout = model.layout
        return fit

    def rows(self, index: Int[Tensor, " K"]) -> Self:
        """Of some of the examples; the models may keep different numbers of theirs."""
        quadratic = self.quadratic
        assert isinstance(quadratic, PixelQuadratic)
        few = copy(self)
        few.layout, cells = self.layout.only(index, quadratic.x.shape[-2])
        few.quadratic = PixelQuadratic(quadratic.x.flatten(0, 1)[cells], quadratic.gamma)
        return few

    def __call__(self, z: Float[Tensor, "*S N d"]) -> Float[Tensor, "*S N"]:
        """The values of log p(x|z), for autograd."""
        return self.layout.join(super().__call__(self.layout.split(z)), 0)

    def gradient(
        self, z: Float[Tensor, "*S N d"]
    ) -> tuple[Float[Tensor, "*S N"], Float[Tensor, "*S N d"]]:
        """The values of log p(x|z) and ∇_z log p(x|z) without a graph."""
        value, slope = super().gradient(self.layout.split(z))
        return self.layout.join(value, 0), self.layout.join(slope)

    def second_order(
        self, z: Float[Tensor, "*S N d"]
    ) -> tuple[Float[Tensor, "*S N d"], Float[Tensor, "*S N d d"]]:
        """∇_z and ∇²_z of −log p(x|z) without a graph."""
        slope, hessian = super().second_order(self.layout.split(z))
        return self.layout.join(slope), self.layout.join(hessian, 2)

    def gram(self, z: Float[Tensor, "N d"]) -> Float[Tensor, "N d d"]:
        """JᵀΓ⁻¹J at z."""
        return self.layout.join(super().gram(self.layout.split(z)), 2)
