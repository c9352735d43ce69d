"""What a data set's loader returns: its values as they are, before any preprocessing."""

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from savi.errors import InputError


@dataclass(frozen=True, eq=False)
class Examples:
    """Examples side by side in one tensor.

    Attributes:
        values: uint8 pixel levels, or floating-point numbers for continuous data. Images are in
            the order [C, H, W].
        labels: A class for each example, or None.
    """

    values: Shaped[Tensor, "N ..."]
    labels: Int[Tensor, " N"] | None = None

    def __len__(self) -> int:
        return len(self.values)

    def take(self, index: Int[Tensor, " M"]) -> Self:
        """The examples at these positions."""
        labels = None if self.labels is None else self.labels[index]
        return type(self)(self.values[index], labels)


@dataclass(frozen=True, eq=False)
class RawData:
    """A data set as its loader found it.

    Attributes:
        train: The training examples.
        val: The published validation split; without one it is taken from ``train``.
        test: The published test split; without one it is taken from ``train``.
        levels: The number L of values that a pixel can take, 0 to L - 1, at most 256; None for
            continuous data.
        truth: For synthetic data, the parameters it was drawn with.
    """

    train: Examples
    val: Examples | None = None
    test: Examples | None = None
    levels: int | None = None
    truth: dict[str, Tensor] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example: [C, H, W] for images, [D] for vectors."""
        return tuple(self.train.values.shape[1:])

    @property
    def splits(self) -> dict[str, Examples]:
        """The splits that the data set comes with, by name."""
        splits = {"train": self.train, "val": self.val, "test": self.test}
        return {name: examples for name, examples in splits.items() if examples is not None}

    def check(self, name: str) -> None:
        """See that the splits can be trained on.

        Args:
            name: The name of the data set, for the message.

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
        if self.levels is None:
            if not values.is_floating_point():
                return f"is continuous and has type {values.dtype}: give floating-point numbers"
            return _first_bad_example(values)
        if values.dtype != torch.uint8:
            return f"has {self.levels} levels and type {values.dtype}: give uint8"
        highest = int(values.max())
        if not 2 <= self.levels <= 256 or highest >= self.levels:
            return (
                f"holds the value {highest} and is said to have {self.levels} levels: "
                "give 2 to 256 levels, and values from 0 to one less than that"
            )
        return None


def _first_bad_example(values: Tensor) -> str | None:
    finite = values.flatten(1).isfinite().all(1)
    if finite.all():
        return None
    return (
        f"has NaN or infinite values, first in example {int((~finite).nonzero()[0])}: "
        "remove or replace them"
    )
