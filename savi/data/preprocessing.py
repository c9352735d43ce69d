"""What a run has taken from its data before training: it belongs to every checkpoint."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from jaxtyping import Int
from torch import Tensor

from savi.data.partition import Partition
from savi.data.raw import MOST_LEVELS, RawData
from savi.data.units import Units
from savi.data.vocabulary import END, UNKNOWN, Vocabulary
from savi.errors import InputError
from savi.typed import check_types


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """The map to the model's units, where the splits lie, and which data these were.

    Attributes:
        units: fitted to the training split.
        shape: of one example.
        levels: the number of pixel levels, or None for continuous data.
        partition: which splits were taken from the training examples, and how.
        trained: the hashes of the training examples, ascending.
        fingerprint: a word for all splits.
        precise: whether the hashes are those of float64.
        sequences: whether the levels are those of sequences.
        words: what their levels stand for, if that is known.
    """

    units: Units
    shape: tuple[int, ...]
    levels: int | None
    partition: Partition
    trained: Int[Tensor, " N"]
    fingerprint: str
    precise: bool = False
    sequences: bool = False
    words: list[str] | None = None

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The words of sequences, if they are known."""
        return None if self.words is None else Vocabulary(tuple(self.words))

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers and words, as safe loading needs them."""
        units = {key: value for key, value in vars(self.units).items() if key != "dtype"}
        partition = dict(vars(self.partition))
        return {**vars(self), "units": units, "shape": list(self.shape), "partition": partition}

    @classmethod
    def of(cls, state: Mapping[str, Any], dtype: torch.dtype) -> Self:
        """From a `state_dict`.

        Raises:
            InputError: for a state that no run has written.
        """
        try:
            check_types(cls, state, exact=True)
            units = Units(**state["units"], dtype=dtype)
            partition, shape = Partition(**state["partition"]), tuple(state["shape"])
            made = cls(**{**state, "units": units, "shape": shape, "partition": partition})
            made._require_sense()
        except (InputError, TypeError) as error:
            raise InputError(
                f"the preprocessing of a checkpoint is not a run's: {error}"
            ) from error
        return made

    def _require_sense(self) -> None:
        """See that the numbers fit together.

        Raises:
            InputError: if not.
        """
        dim, units = math.prod(self.shape), self.units
        sensible = {
            "shape": bool(self.shape) and min(self.shape) > 0,
            "levels": self.levels is None
            or 2 <= self.levels <= (MOST_LEVELS if self.sequences else 256),
            "words": self.words is None
            or (len(self.words) == self.levels and {END, UNKNOWN} <= set(self.words)),
            "units.divisor": units.divisor > 0,
            "units.centre": units.centre.shape == (dim,) and bool(units.centre.isfinite().all()),
            "units.scale": units.scale.shape in ((1,), (dim,))
            and bool((units.scale.isfinite() & (units.scale > 0)).all()),
            "units.variance": math.isfinite(units.variance),
        }
        if wrong := [name for name, fine in sensible.items() if not fine]:
            raise InputError(f"{wrong[0]} cannot be that of data of shape {list(self.shape)}")

    def require(self, name: str, raw: RawData) -> None:
        """See that other data can be looked at as those of the run were.

        Raises:
            InputError: for data of another shape or kind.
        """
        if raw.shape != self.shape:
            raise InputError(
                f"data set '{name}' has examples of shape {list(raw.shape)} and the run had "
                f"{list(self.shape)}: give data of the same shape"
            )
        of_words = raw.words is not None and self.words is not None
        if raw.sequences != self.sequences or not (of_words or raw.levels == self.levels):
            found, own = (_kind(one) for one in (raw, self))
            raise InputError(
                f"data set '{name}' holds {found} and the run had {own}: save the data as those "
                "of the run"
            )

    def count_trained(self, hashes: Int[Tensor, " M"]) -> int:
        """How many of these examples were trained on."""
        return int(torch.isin(hashes, self.trained).sum())


def _kind(data: RawData | Preprocessing) -> str:
    """What values data hold, in words."""
    if data.words is not None:
        return "words"
    if data.levels is None:
        return "floating-point numbers"
    return f"{data.levels} {'levels of sequences' if data.sequences else 'pixel levels'}"
