"""What a run has taken from its data before training: it belongs to every checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from jaxtyping import Int
from torch import Tensor

from savi.data.partition import Partition
from savi.data.raw import RawData
from savi.data.units import Units
from savi.errors import InputError


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
    """

    units: Units
    shape: tuple[int, ...]
    levels: int | None
    partition: Partition
    trained: Int[Tensor, " N"]
    fingerprint: str
    precise: bool = False

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers and words, as safe loading needs them."""
        units = {key: value for key, value in vars(self.units).items() if key != "dtype"}
        partition = dict(vars(self.partition))
        return {**vars(self), "units": units, "shape": list(self.shape), "partition": partition}

    @classmethod
    def of(cls, state: Mapping[str, Any], dtype: torch.dtype) -> Self:
        """From a `state_dict`."""
        units = Units(**state["units"], dtype=dtype)
        partition, shape = Partition(**state["partition"]), tuple(state["shape"])
        return cls(**{**state, "units": units, "shape": shape, "partition": partition})

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
        if raw.levels != self.levels:
            found, own = (
                "floating-point numbers" if levels is None else f"{levels} pixel levels"
                for levels in (raw.levels, self.levels)
            )
            raise InputError(
                f"data set '{name}' holds {found} and the run had {own}: save the data as those "
                "of the run"
            )

    def count_trained(self, hashes: Int[Tensor, " M"]) -> int:
        """How many of these examples were trained on."""
        return int(torch.isin(hashes, self.trained).sum())
