"""The images that benchmarks train on, at their own size or at a larger one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

import torch
from torch.nn.functional import interpolate

from savi.data import TensorDataModule
from savi.errors import InputError, require_at_least
from savi.types import Observations

#: What the grey image is multiplied by in each channel, so that no channel is another's copy.
CHANNELS = (1.0, 0.7, 0.4)


@dataclass(frozen=True)
class Images:
    """A data set, and the size at which its examples are seen."""

    data: TensorDataModule  # the data set, read
    #: None for the examples as they are; otherwise images are resized to three channels of ``side``
    #: × ``side`` pixels, D = 3 side².
    side: int | None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of an example before flattening."""
        if self.side is None:
            return self.data.shape
        return (len(CHANNELS), self.side, self.side)

    @property
    def epoch_length(self) -> int:
        """The batches that hold every training example once."""
        return len(self.data.train_dataloader())

    def training_batches(self, start: int = 0) -> Iterator[Observations]:
        """Epoch after epoch without an end, in an order that depends on the seed alone.

        Args:
            start: how many batches have been taken before. Their like is not drawn again, and
                nothing is drawn from the global source of randomness.
        """
        loader = self.data.train_dataloader()
        first, taken = divmod(start, len(loader))
        for epoch in count(first):
            loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
            for visit in islice(loader.sampler, taken, None):
                yield self._resized(loader.dataset[visit].x)
            taken = 0

    def held_out(self, batch: int, split: str = "val") -> Observations:
        """The first examples of the validation split, or of another."""
        x = self.data.split(split)
        if batch > len(x):
            name = {"val": "validation"}.get(split, split)
            raise InputError(
                f"a batch of {batch} examples is asked for, and the {name} split of "
                f"'{self.data.name}' has {len(x)}: ask for at most that, or choose larger data"
            )
        return self._resized(x[:batch])

    def _resized(self, x: Observations) -> Observations:
        if self.side is None:
            return x
        grey = x.unflatten(1, self.data.shape).mean(dim=1, keepdim=True)
        large = interpolate(grey, size=(self.side, self.side), mode="bilinear")
        weights = torch.tensor(CHANNELS).view(1, -1, 1, 1)
        return (large * weights).flatten(1)


def read_images(name: str, path: str | None, side: int | None, seed: int, **options: Any) -> Images:
    """A data set in savi's units, dequantised and centred, and the size at which it is seen.

    ``options`` are further arguments of :class:`savi.data.TensorDataModule`.
    """
    if side is not None:
        require_at_least("side", side, 1)
    data = TensorDataModule(name, path=path, seed=seed, **options)
    data.setup()
    if side is not None and len(data.shape) != 3:
        raise InputError(
            f"side is {side}, and the examples of '{name}' are no images: set side to null, or "
            "choose another data set"
        )
    return Images(data, side)
