"""R inferences as one, whose batch holds R batches one after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from savi.inference.semi_amortized import SemiAmortizedInference
from savi.replicas.layout import Layout
from savi.replicas.model import StackedFit, StackedVAE
from savi.vae.data_fit import DataFit
from savi.vae.model import GaussianVAE
from savi.vae.networks.stacked import stack_networks
from savi.vae.noise import NoiseSchedule


class StackedEncoder(nn.Module):
    """g_r(x) for the rows of every model r; its weights are those of the encoders."""

    def __init__(self, encoders: Sequence[nn.Module]) -> None:
        super().__init__()
        self.network, self.layout = stack_networks(encoders), Layout(len(encoders))

    def forward(self, x: Float[Tensor, "N D"]) -> Float[Tensor, "N P"]:
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

    def data_fit(
        self,
        model: GaussianVAE,
        x: Float[Tensor, "N D"],
        reference: Float[Tensor, "N d"],
        codes: int,
    ) -> DataFit:
        """By decoding to the data, with every model for its own rows."""
        assert isinstance(model, StackedVAE)
        return StackedFit.of(model, x)

    def constant(self, name: str, init: Float[Tensor, "N P"]) -> float | Float[Tensor, " N"]:
        """The model's own, for each of its rows; one number if they all have the same."""
        values = [getattr(part, name) for part in self.parts]
        if len(set(values)) == 1:
            return values[0]
        each = torch.tensor(values, dtype=init.dtype, device=init.device)
        return each.repeat_interleave(len(init) // len(values))

    def draw_from(
        self, generators: Sequence[torch.Generator], like: Float[Tensor, "B d"]
    ) -> NoiseSchedule:
        """The inner noise that each inference would draw from its own source.

        Args:
            generators: the sources.
            like: codes of one of the R batches.
        """
        draws = [self.draw_noise(like, generator) for generator in generators]
        return lambda step: torch.cat([draw(step) for draw in draws], dim=1)
