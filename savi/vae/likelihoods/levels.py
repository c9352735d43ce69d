"""What likelihoods of levels have in common: probabilities of k where x = k/(L − 1)."""

from __future__ import annotations

from abc import abstractmethod
from typing import TypeAlias

from jaxtyping import Float, Int
from torch import Tensor

from savi.errors import InputError
from savi.types import Observations
from savi.vae.likelihoods.base import Likelihood

#: The levels of entries, any below 0 where there is none.
Levels: TypeAlias = Int[Tensor, "*S B D"]

#: So many outputs for each of the D entries, entry by entry.
PerEntry: TypeAlias = Float[Tensor, "*S B F"]


class LevelsLikelihood(Likelihood):
    """p(k|o) of levels k = 0, …, L − 1, of which every entry has several outputs.

    Attributes:
        levels: L, which the data say.
    """

    support = "levels"

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.levels = 2

    @property
    @abstractmethod
    def outputs_per_entry(self) -> int:
        """The decoder's outputs for an entry, given L."""

    def output_shape(self, data_shape: tuple[int, ...], levels: int | None) -> tuple[int, ...]:
        """Several outputs for each entry, of so many levels from now on.

        Raises:
            InputError: for data without levels.
        """
        if levels is None:
            raise InputError(
                f"model.likelihood '{self.name}' with data of real numbers: choose data of levels, "
                "or set model.likelihood=gaussian"
            )
        self.levels = levels
        return (*data_shape, self.outputs_per_entry)

    @property
    def num_outputs(self) -> int:
        """Those of D entries."""
        return self.dim * self.outputs_per_entry

    def level(self, x: Observations) -> Levels:
        """The levels k."""
        return (x * (self.levels - 1)).round().long()

    def split(self, o: PerEntry) -> Float[Tensor, "*S B D E"]:
        """The outputs of each entry."""
        return o.unflatten(-1, (-1, self.outputs_per_entry))
