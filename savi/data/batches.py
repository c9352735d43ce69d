"""Whole batches by position: no Python work for single examples."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.utils.data import Dataset

from savi.data.randomness import generator
from savi.data.units import Units


class Batch(NamedTuple):
    """What the loaders yield.

    Attributes:
        x: The examples, flattened, in the model's units, float32.
        index: Their positions in their split.
    """

    x: Float[Tensor, "B D"]
    index: Int[Tensor, " B"]  # type: ignore[assignment]  # hides tuple.index, as fields may


class Visit(NamedTuple):
    """What a sampler asks of a data set: one batch of one epoch.

    Attributes:
        positions: The positions of the batch's examples in their split.
        key: Integers that no other visit has; they determine the noise.
        share: The rows of the batch that are wanted here, where several devices share it.
    """

    positions: Int[Tensor, " B"]
    key: tuple[int, ...]
    share: slice = slice(None)


class FixedExamples(Dataset[Batch]):
    """Examples that look the same at every visit.

    Args:
        x: All of them, in the model's units.
    """

    def __init__(self, x: Float[Tensor, "N D"]) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, visit: Visit) -> Batch:
        positions = visit.positions[visit.share]
        return Batch(_rows(self.x, positions), positions)


class DequantisedExamples(Dataset[Batch]):
    """Examples with fresh dequantisation noise at every visit, determined by the visit's key.

    Args:
        values: All of them, as pixel levels.
        units: The map to the model's units.
        seed: The seed of the noise in `x`.
    """

    def __init__(self, values: Shaped[Tensor, "N D"], units: Units, seed: int) -> None:
        self.values = values
        self.units = units
        self.seed = seed

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, visit: Visit) -> Batch:
        noise = generator("training noise", *visit.key)
        values = _rows(self.values, visit.positions)
        # The noise of the whole batch, so that an example's noise is the same on any device.
        return Batch(self.units(values, noise)[visit.share], visit.positions[visit.share])

    @property
    def x(self) -> Float[Tensor, "N D"]:
        """All examples with one fixed noise, computed at each call."""
        return self.units(self.values, generator("fixed training noise", self.seed))


def _rows(values: Shaped[Tensor, "N D"], positions: Int[Tensor, " B"]) -> Shaped[Tensor, "B D"]:
    """Gather rows on one thread; `savi.data.units` says why."""
    return torch.from_numpy(values.numpy()[positions.numpy()])
