"""R generative models, and R inferences, as one whose batch holds R batches one after another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from savi.inference.semi_amortized import SemiAmortizedInference
from savi.types import Codes, Index, Observations, PerExample, Rows
from savi.vae.data_fit import DataFit
from savi.vae.distributions import NoiseSchedule
from savi.vae.likelihoods import GaussianLikelihood
from savi.vae.model import VAE, GaussianVAE
from savi.vae.networks.stacked import stack_networks
from savi.vae.quadratic import PixelQuadratic
from savi.vae.variance import ObservationVariance

#: Codes for the rows of a batch.
Points: TypeAlias = Float[Tensor, "*S N d"]


@dataclass(frozen=True)
class Layout:
    """The rows of a batch as a grid with a line for each model.

    Row i lies in cell ``cells[i]`` of the flattened grid. Without ``cells`` the batch fills the
    grid row by row, and both directions are views. With them, cells that no row lies in show the
    first row, and what is computed there is dropped.

    ``models`` is R; ``cells`` rise in i, and ``shown`` is the row that each cell shows.
    """

    models: int
    cells: Int[Tensor, " N"] | None = None
    shown: Int[Tensor, "R m"] | None = None

    def split(self, v: Float[Tensor, "*S N F"]) -> Float[Tensor, "*S R m F"]:
        """The rows in the grid."""
        if self.shown is None:
            return v.unflatten(-2, (self.models, -1))
        return v[..., self.shown, :]

    def join(self, v: Tensor, event: int = 1) -> Tensor:
        """The grid [..., R, m, *event] as rows; the value of an example has ``event`` axes."""
        rows = v.flatten(-2 - event, -1 - event)
        return rows if self.cells is None else rows.index_select(rows.ndim - 1 - event, self.cells)

    def only(self, index: Int[Tensor, " K"], size: int) -> tuple[Layout, Int[Tensor, "R m"]]:
        """The layout of some of the rows, in their (rising) order.

        ``size`` are the cells in a line of this grid. The second result is, for each cell of the
        new one, a cell of this grid that holds the same example.
        """
        old = index if self.cells is None else self.cells[index]
        line = old // size
        counts = torch.bincount(line, minlength=self.models)
        place = torch.arange(len(index), device=index.device) - (counts.cumsum(0) - counts)[line]
        width = int(counts.max())
        cells = line * width + place
        shown = cells.new_zeros(self.models * width)
        shown[cells] = torch.arange(len(index), device=index.device)
        shown = shown.unflatten(0, (self.models, width))
        return Layout(self.models, cells, shown), old[shown]


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
        self, x: Observations, o: Float[Tensor, "S N D"], outer: bool = False
    ) -> tuple[Float[Tensor, "S N"], Float[Tensor, "S N"]]:
        """As that of a single model."""
        split, join = self.layout.split, self.layout.join
        log_likelihood, squared_error = super().forward(split(x), split(o), outer)
        return join(log_likelihood, 0), join(squared_error, 0)


class StackedVAE(GaussianVAE):
    """p_r(x, z) for the rows of every model r; its weights are those of the models.

    Args:
        models: R models of one architecture.

    Attributes:
        layout: of whole batches.
    """

    def __init__(self, models: Sequence[VAE]) -> None:
        decoder = stack_networks([model.decoder for model in models])
        gaussian = [model for model in models if isinstance(model, GaussianVAE)]
        assert len(gaussian) == len(models)
        variance = StackedVariance([model.gamma for model in gaussian])
        super().__init__(decoder, variance, models[0].latent_dim)
        self.models = len(models)
        self.layout = Layout(self.models)
        self.likelihood = StackedLikelihood(variance, self.layout)

    def decode(self, z: Points) -> Float[Tensor, "*S N D"]:
        """μ_r(z)."""
        return self.layout.join(super().decode(self.layout.split(z)))

    def decode_rows(self, z: Points, rows: Index) -> Float[Tensor, "S K D"]:
        """μ_r(z) for some of the examples."""
        layout, _ = self.layout.only(rows, z.shape[-2] // self.models)
        return layout.join(super().decode(layout.split(z[..., rows, :])))

    def gram(self, z: Codes) -> Float[Tensor, "N d d"]:
        """JᵀΓ⁻¹J at z."""
        return self.layout.join(super().gram(self.layout.split(z)), 2)


class StackedFit(DataFit):
    """z ↦ log p_r(x|z) for the rows of every model r, by decoding to the data."""

    layout: Layout

    @classmethod
    def of(cls, model: StackedVAE, x: Observations) -> Self:
        """For a whole batch."""
        fit = cls(model, model.decoder, PixelQuadratic(model.layout.split(x), model.gamma()))
        fit.layout = model.layout
        return fit

    def rows(self, index: Index) -> Self:
        """Of some of the examples; the models may keep different numbers of theirs."""
        terms = self.terms
        assert isinstance(terms, PixelQuadratic)
        few = copy(self)
        few.layout, cells = self.layout.only(index, terms.x.shape[-2])
        few.terms = PixelQuadratic(terms.x.flatten(0, 1)[cells], terms.gamma)
        return few

    def __call__(self, z: Points) -> Float[Tensor, "*S N"]:
        """The values of log p(x|z), for autograd."""
        return self.layout.join(super().__call__(self.layout.split(z)), 0)

    def gradient(self, z: Points) -> tuple[Float[Tensor, "*S N"], Points]:
        """The values of log p(x|z) and ∇_z log p(x|z) without a graph."""
        value, slope = super().gradient(self.layout.split(z))
        return self.layout.join(value, 0), self.layout.join(slope)

    def second_order(self, z: Points) -> tuple[Points, Float[Tensor, "*S N d d"]]:
        """∇_z and ∇²_z of −log p(x|z) without a graph."""
        slope, hessian = super().second_order(self.layout.split(z))
        return self.layout.join(slope), self.layout.join(hessian, 2)

    def rough(
        self, z: Points, dtype: torch.dtype
    ) -> tuple[Points, Float[Tensor, "*S N d d"], Callable[[Points], Points]] | None:
        """∇_z and ∇²_z of −log p(x|z), the latter by a shorter type, and v ↦ ∇²_z v."""
        found = super().rough(self.layout.split(z), dtype)
        if found is None:
            return None
        slope, hessian, product = found
        join = self.layout.join
        return join(slope), join(hessian, 2), lambda v: join(product(self.layout.split(v)))

    def gram(self, z: Codes) -> Float[Tensor, "N d d"]:
        """JᵀΓ⁻¹J at z."""
        return self.layout.join(super().gram(self.layout.split(z)), 2)


class StackedEncoder(nn.Module):
    """g_r(x) for the rows of every model r; its weights are those of the encoders."""

    def __init__(self, encoders: Sequence[nn.Module]) -> None:
        super().__init__()
        self.network, self.layout = stack_networks(encoders), Layout(len(encoders))

    def forward(self, x: Observations) -> Rows:
        """λ0."""
        return self.layout.join(self.network(self.layout.split(x)))


class StackedInference(SemiAmortizedInference):
    """x ↦ λ0 ↦ λK for the rows of every model r: one inner solve for all of them.

    The result for an example never depends on its batch, so that this is R separate inferences.

    Args:
        parts: R inferences that differ in their weights, ρ and r alone.
        inner: the ``inner`` group that they share.
        gradient: the ``gradient`` group.
    """

    def __init__(
        self,
        parts: Sequence[SemiAmortizedInference],
        inner: Mapping[str, Any],
        gradient: Mapping[str, Any],
    ) -> None:
        encoders = [part.encoder for part in parts if part.encoder is not None]
        encoder = StackedEncoder(encoders) if encoders else None
        super().__init__(encoder, parts[0].family, inner, gradient)
        self.parts = list(parts)
        self.prior_params = parts[0].prior_params

    def data_fit(self, model: VAE, x: Observations, reference: Codes, codes: int) -> DataFit:
        """By decoding to the data, with every model for its own rows."""
        assert isinstance(model, StackedVAE)
        return StackedFit.of(model, x)

    def constant(self, name: str, init: Rows) -> float | PerExample:
        """The model's own, for each of its rows; one number if they all have the same."""
        values = [getattr(part, name) for part in self.parts]
        if len(set(values)) == 1:
            return values[0]
        each = torch.tensor(values, dtype=init.dtype, device=init.device)
        return each.repeat_interleave(len(init) // len(values))

    def draw_from(self, generators: Sequence[torch.Generator], like: Codes) -> NoiseSchedule:
        """The inner noise that each would draw from its own source, for codes of one batch."""
        draws = [self.draw_noise(like, generator) for generator in generators]
        return lambda step: torch.cat([draw(step) for draw in draws], dim=1)
