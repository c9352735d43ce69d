"""Whole batches by position, in an order keyed by seed and epoch: no work for single examples."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, SequentialSampler
from torch.utils.data.distributed import DistributedSampler

from savi.data.randomness import generator
from savi.data.units import Units
from savi.errors import InputError


class Batch(NamedTuple):
    """What the loaders yield: flattened examples in the model's units, and their positions."""

    x: Float[Tensor, "B D"]
    index: Int[Tensor, " B"]  # type: ignore[assignment]  # hides tuple.index, as fields may


#: A batch of ours, or the tensors of any other data set, the examples first.
AnyBatch = Batch | Sequence[Tensor] | Tensor


def as_batch(batch: AnyBatch, shape: tuple[int, ...], labelled: bool = False) -> Batch:
    """The batch with its examples flattened; the positions of another loader's are none.

    Where they are ``labelled`` the second tensor of another loader holds the labels.

    Raises:
        InputError: for examples that have not the size of this shape, and for missing labels.
    """
    if not isinstance(batch, Batch):
        parts = [batch] if isinstance(batch, Tensor) else batch
        x = parts[0].flatten(1)
        if labelled and len(parts) < 2:
            raise InputError(
                "model.condition 'labels' with batches of one tensor: give examples and labels"
            )
        x = with_labels(x, parts[1]) if labelled else x
        batch = Batch(x, torch.empty(0, dtype=torch.int64))
    if batch.x.shape[1] != math.prod(shape) + labelled:
        raise InputError(
            f"a batch has examples of {batch.x.shape[1]} numbers, and data_shape {shape} has "
            f"{math.prod(shape)}: give data_shape those of the data"
        )
    return batch


def with_labels(x: Float[Tensor, "B D"], labels: Int[Tensor, " B"]) -> Float[Tensor, "B D+1"]:
    """Rows of examples that have their labels behind them."""
    return torch.cat([x, labels.to(x).unsqueeze(1)], dim=1)


class Visit(NamedTuple):
    """What a sampler asks of a data set: one batch of one epoch.

    No other visit has the same key, which determines the noise. Where several devices share the
    batch, ``share`` are the rows that are wanted here.
    """

    positions: Int[Tensor, " B"]
    key: tuple[int, ...]
    share: slice = slice(None)


class FixedExamples(Dataset[Batch]):
    """Examples, in the model's units, that look the same at every visit.

    Attributes:
        rows: what a model is given of them: x, and the labels behind it if there are any.
    """

    def __init__(self, x: Float[Tensor, "N D"], labels: Int[Tensor, " N"] | None = None) -> None:
        self.rows = x if labels is None else with_labels(x, labels)
        self.x = self.rows[:, : x.shape[1]] if labels is not None else x

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, visit: Visit) -> Batch:
        positions = visit.positions[visit.share]
        return Batch(_rows(self.rows, positions), positions)


class DequantisedExamples(Dataset[Batch]):
    """Pixel levels with fresh dequantisation noise at every visit, determined by the visit's key.

    The seed is that of the noise in `x`.
    """

    def __init__(
        self,
        values: Shaped[Tensor, "N D"],
        units: Units,
        seed: int,
        labels: Int[Tensor, " N"] | None = None,
    ) -> None:
        self.values, self.units, self.seed, self.labels = values, units, seed, labels

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, visit: Visit) -> Batch:
        noise = generator("training noise", *visit.key)
        values = _rows(self.values, visit.positions)
        # The noise of the whole batch, so that an example's noise is the same on any device.
        x, positions = self.units(values, noise)[visit.share], visit.positions[visit.share]
        return Batch(
            x if self.labels is None else with_labels(x, self.labels[positions]), positions
        )

    @property
    def x(self) -> Float[Tensor, "N D"]:
        """All examples with one fixed noise, computed at each call."""
        return self.units(self.values, generator("fixed training noise", self.seed))

    @property
    def rows(self) -> Float[Tensor, "N E"]:
        """The same with the labels behind it, if there are any."""
        return self.x if self.labels is None else with_labels(self.x, self.labels)


def _rows(values: Shaped[Tensor, "N D"], positions: Int[Tensor, " B"]) -> Shaped[Tensor, "B D"]:
    """Gather rows on one thread; `savi.data.units` says why."""
    return torch.from_numpy(values.numpy()[positions.numpy()])


class ShuffledBatches(DistributedSampler[Visit]):
    """Batches of a permutation that depends on the seed and the epoch alone.

    A resumed run therefore sees the order, and the noise, that the interrupted one would have
    seen. The last batch holds what remains. It is a ``DistributedSampler`` so that Lightning
    leaves it in place on several devices; ``set_epoch`` is called by Lightning. There each device
    gets its share of every batch, rows of the batch that one device alone would see (the first
    few examples of an epoch come twice if its examples do not divide evenly).

    Args:
        size: The number of examples.
        batch_size: Examples in a batch, of all devices together.
        seed: The seed of the order and of the noise.
        num_replicas: The number of devices.
        rank: This device.

    Attributes:
        start: The batches of the next pass that are left out, because they have been seen.
        taken: Those that have been asked for in this pass, left out ones included.
    """

    def __init__(
        self, size: int, batch_size: int, seed: int, *, num_replicas: int = 1, rank: int = 0
    ) -> None:
        examples: Any = range(size)  # only its length counts
        super().__init__(examples, num_replicas=num_replicas, rank=rank, seed=seed)
        self.size, self.batch_size = size, batch_size
        self.start = self.taken = 0

    def order(self) -> torch.Tensor:
        """The positions of all examples, in this epoch's order."""
        return torch.randperm(self.size, generator=generator("order", self.seed, self.epoch))

    def __iter__(self) -> Iterator[Visit]:
        order = self.order()
        padded = torch.cat([order, order[: self.total_size - len(order)]])
        share = slice(self.rank, None, self.num_replicas)
        start, self.start = self.start, 0
        for step, index in enumerate(padded.split(self.batch_size)):
            if step < start:
                continue
            self.taken = step + 1
            yield Visit(index, (self.seed, self.epoch, 0, step), share)

    def __len__(self) -> int:
        return -(-self.total_size // self.batch_size)


class OrderedBatches(ShuffledBatches, SequentialSampler):  # type: ignore[misc]
    """The same, in the order of the split at every epoch.

    It is a ``SequentialSampler`` because Lightning's ``overfit_batches`` replaces any other.
    """

    def order(self) -> torch.Tensor:
        """The positions of all examples, ascending."""
        return torch.arange(self.size)


class Batches(DataLoader[Batch]):
    """A loader that can go on in the middle of a pass, as Lightning asks it to."""

    sampler: ShuffledBatches

    def state_dict(self) -> dict[str, int]:
        """How far the pass has come."""
        return {"taken": self.sampler.taken}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Begin the next pass there."""
        self.sampler.start = state["taken"]
