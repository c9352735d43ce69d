"""The order of the examples: keyed by seed and epoch, a batch at a time."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import SequentialSampler
from torch.utils.data.distributed import DistributedSampler

from savi.data.batches import Visit
from savi.data.randomness import generator


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
    """

    def __init__(
        self, size: int, batch_size: int, seed: int, *, num_replicas: int = 1, rank: int = 0
    ) -> None:
        examples: Any = range(size)  # only its length counts
        super().__init__(examples, num_replicas=num_replicas, rank=rank, seed=seed)
        self.size = size
        self.batch_size = batch_size

    def order(self) -> torch.Tensor:
        """The positions of all examples, in this epoch's order."""
        order = generator("order", self.seed, self.epoch)
        return torch.randperm(self.size, generator=order)

    def __iter__(self) -> Iterator[Visit]:
        order = self.order()
        padded = torch.cat([order, order[: self.total_size - len(order)]])
        share = slice(self.rank, None, self.num_replicas)
        for step, index in enumerate(padded.split(self.batch_size)):
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
