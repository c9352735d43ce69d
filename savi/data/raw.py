"""A data set as its loader finds it, before any preprocessing, and its three splits."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from savi.data.partition import Partition, float32_merges, places, row_hashes
from savi.data.vocabulary import FileWords
from savi.errors import InputError

#: Levels that sequences may have: float32 tells twice as many apart.
MOST_LEVELS = 2**22
#: Channels that an image may have: grey, colour, colour and opacity.
_CHANNELS = (1, 3, 4)


@dataclass(frozen=True, eq=False)
class Examples:
    """Examples side by side in one tensor, images in the order [C, H, W], and their classes.

    Values are uint8 pixel levels, floating-point numbers for continuous data, or int32 levels of
    sequences, −1 after their end. Their hashes are ``precise`` where float32 does not tell examples
    apart, or the ``keys`` that a loader has of them.
    """

    values: Shaped[Tensor, "N ..."]
    labels: Int[Tensor, " N"] | None = None
    precise: bool = False
    keys: Int[Tensor, " N"] | None = None

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def hashes(self) -> Int[Tensor, " N"]:
        """64 bits of each example's values."""
        return row_hashes(self.values, self.precise) if self.keys is None else self.keys

    def channels_first(self) -> Self:
        """Images [H, W, C] as [C, H, W]."""
        return replace(self, values=self.values.movedim(-1, 1).contiguous())

    def take(self, index: Int[Tensor, " M"]) -> Self:
        """The examples at these positions."""
        labels = None if self.labels is None else self.labels[index]
        keys = None if self.keys is None else self.keys[index]
        return replace(self, values=self.values[index], labels=labels, keys=keys)


@dataclass(frozen=True, eq=False)
class RawData:
    """A data set as its loader found it.

    Attributes:
        train: The training examples, from which splits that are not published are taken.
        val: The published validation split.
        test: The published test split.
        levels: The number L of values that a pixel can take, 0 to L - 1, at most 256; None for
            continuous data.
        truth: For synthetic data, the parameters it was drawn with.
        sequences: Whether examples are sequences of L levels, which may be many more.
        words: What the levels of sequences stand for before a vocabulary is fitted, which then
            numbers them anew; L is not known yet.
    """

    train: Examples
    val: Examples | None = None
    test: Examples | None = None
    levels: int | None = None
    truth: dict[str, Tensor] | None = None
    sequences: bool = False
    words: FileWords | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example: [C, H, W] for images, [D] for vectors."""
        return tuple(self.train.values.shape[1:])

    @property
    def splits(self) -> dict[str, Examples]:
        """The splits that the data set comes with, by name."""
        splits = {"train": self.train, "val": self.val, "test": self.test}
        return {name: examples for name, examples in splits.items() if examples is not None}

    @property
    def needs_precision(self) -> bool:
        """Whether float32 does not tell the examples of a split apart."""
        return any(float32_merges(examples.values) for examples in self.splits.values())

    def hashed(self, precise: bool) -> Self:
        """With hashes of this precision."""
        told: dict[str, Any] = {
            name: replace(examples, precise=precise) for name, examples in self.splits.items()
        }
        return replace(self, **told)

    def arranged(self, name: str, layout: str) -> Self:
        """With images in the order [C, H, W], where the ``layout`` says that they come in another.

        Raises:
            InputError: for images that look as if they came in the other order.
        """
        if len(self.shape) != 3:
            return self
        first, _, last = self.shape
        shape = "×".join(map(str, self.shape))
        if layout == "channels_first":
            if last in _CHANNELS and first > last:
                raise InputError(
                    f"data set '{name}' has examples of {shape}, which would be {first} channels: "
                    "set data.layout=channels_last, or save vectors if these are no images"
                )
            return self
        if first in _CHANNELS and last > first:
            # Images of one channel come without an axis for it, which they have been given.
            if first == 1:
                return self
            raise InputError(
                f"data set '{name}' has examples of {shape}, whose last axis would be {last} "
                "channels: set data.layout=channels_first"
            )
        val, test = (None if one is None else one.channels_first() for one in (self.val, self.test))
        return replace(self, train=self.train.channels_first(), val=val, test=test)

    def check(self, name: str) -> None:
        """See that the splits of the data set of that name can be trained on.

        Raises:
            InputError: for a split that is empty, of another shape than the training split, of
                the wrong type, outside its levels or not finite, or with too few or too many
                labels.
        """
        for split, examples in self.splits.items():
            fault = self._shape_fault(examples) or self._value_fault(examples.values)
            if fault is not None:
                raise InputError(f"data set '{name}': the {split} split {fault}")

    def _shape_fault(self, examples: Examples) -> str | None:
        shape, labels = list(examples.values.shape), examples.labels
        if len(shape) < 2 or examples.values.numel() == 0:
            return f"has shape {shape}: give at least one example and one dimension, [N, D]"
        if tuple(shape[1:]) != self.shape:
            return (
                f"has examples of shape {shape[1:]} and the train split of shape "
                f"{list(self.shape)}: give both the same"
            )
        if labels is not None and labels.shape != (len(examples),):
            return (
                f"has {len(examples)} examples and labels of shape {list(labels.shape)}: "
                "give one label for each example"
            )
        return None

    def _value_fault(self, values: Tensor) -> str | None:
        if self.sequences:
            return self._sequence_fault(values)
        if self.levels is None:
            if not values.is_floating_point():
                return f"is continuous and has type {values.dtype}: give floating-point numbers"
            bad = (~values.flatten(1).float().isfinite().all(1)).nonzero()
            if len(bad):
                return (
                    f"has NaN or infinite values, first in example {int(bad[0])}: remove or "
                    "replace them"
                )
            return None
        if values.dtype != torch.uint8:
            return f"has {self.levels} levels and type {values.dtype}: give uint8"
        highest = int(values.max())
        if not 2 <= self.levels <= 256 or highest >= self.levels:
            return (
                f"holds the value {highest} and is said to have {self.levels} levels: "
                "give 2 to 256 levels, and values from 0 to one less than that"
            )
        return None

    def _sequence_fault(self, values: Tensor) -> str | None:
        levels = self.levels if self.words is None else len(self.words.words)
        if values.dtype != torch.int32 or values.ndim != 2:
            return (
                f"has sequences of type {values.dtype} and shape {list(values.shape)}: give int32"
            )
        least, highest = int(values.min()), int(values.max())
        if levels is None or not 2 <= levels <= MOST_LEVELS or highest >= levels or least < -1:
            return (
                f"holds values from {least} to {highest} and is said to have {levels} levels: give "
                f"2 to {MOST_LEVELS} levels, and values from 0 to one less than that, or −1 at the "
                "end"
            )
        ended = values < 0
        if bool((ended[:, :-1] & ~ended[:, 1:]).any()) or bool(ended[:, 0].any()):
            return "has sequences that go on after a −1, or are empty: pad them at the end alone"
        return None


def train_val_test(
    raw: RawData, val_size: float, limit: int | None, seed: int, partition: Partition | None = None
) -> dict[str, Examples]:
    """Disjoint splits ``train``, ``val`` and ``test`` that depend on content and seed alone.

    A missing validation split, and a missing test split, is taken from the training examples where
    the partition says, by default `partition_of`. Which examples a ``limit`` leaves in each split
    their content decides too. A split keeps the order of the data set it comes from.

    Raises:
        InputError: as `partition_of` does, and if a split is empty.
    """
    splits, missing = raw.splits, missing_splits(raw)
    if partition is None or not set(missing) <= set(partition.ends):
        partition = partition_of(raw, val_size, seed)
    if missing:
        chosen = partition.members(raw.train.hashes, missing)
        splits |= {name: raw.train.take(rows) for name, rows in chosen.items()}
    for name, examples in splits.items():
        if not len(examples):
            raise InputError(
                f"none of the {len(raw.train)} examples falls into the {name} split, as the run "
                f"has drawn it: give more of them, or save an array '{name}' in an .npz file"
            )
    return {name: _limited(examples, limit, seed) for name, examples in splits.items()}


def missing_splits(raw: RawData) -> list[str]:
    """The splits that the data set comes without."""
    return [name for name in ("val", "test") if name not in raw.splits]


def partition_of(raw: RawData, val_size: float, seed: int) -> Partition:
    """Where the missing splits are taken from the training examples.

    Each holds ``val_size`` of them, a fraction if below 1, otherwise a count.

    Raises:
        InputError: for a ``val_size`` that is not above 0, is neither a fraction nor a count, or
            leaves nothing to train on.
    """
    missing, size = missing_splits(raw), len(raw.train)
    if not missing:
        return Partition(seed, {})
    held_out = _count(val_size, size)
    if size - held_out * len(missing) < 1:
        raise InputError(
            f"data.val_size={val_size:g} takes {held_out} of {size} examples for "
            f"{' and as many for '.join(missing)} and leaves none to train on: "
            "set a smaller one"
        )
    return Partition.choose(raw.train.hashes, missing, held_out, seed)


def _count(val_size: float, size: int) -> int:
    if not val_size > 0 or (val_size >= 1 and val_size % 1 != 0):
        raise InputError(
            f"data.val_size={val_size} is neither a fraction between 0 and 1 nor a whole number "
            "of examples: set one of the two"
        )
    return int(val_size) if val_size >= 1 else max(1, round(val_size * size))


def _limited(examples: Examples, limit: int | None, seed: int) -> Examples:
    if limit is None or limit >= len(examples):
        return examples
    order = places(examples.hashes, "limit", seed).argsort(stable=True)
    return examples.take(order[:limit].sort().values)
