"""Examples as their owner has them, and as the model sees them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from numpy.typing import NDArray
from torch import Tensor

from savi.data.preprocessing import Preprocessing
from savi.data.randomness import generator
from savi.data.vocabulary import END, PADDING, Vocabulary
from savi.errors import InputError
from savi.types import Observations

#: What a user hands over: examples side by side, or lines of text.
Values: TypeAlias = Shaped[Tensor, "N ..."] | NDArray[np.generic] | list[str]


@dataclass(frozen=True)
class Form:
    """The map from a data set's own arrays to the model's units, and back.

    Attributes:
        preprocessing: the units, the shape and the levels of the run's data.
        layout: the order of an image's axes in the arrays.
        seed: of the dequantisation noise, the same at every call.
    """

    preprocessing: Preprocessing
    layout: str = "channels_first"
    seed: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """That of one example in the user's order of axes."""
        shape = self.preprocessing.shape
        return (*shape[1:], shape[0]) if self._moves else shape

    @property
    def _moves(self) -> bool:
        return self.layout == "channels_last" and len(self.preprocessing.shape) == 3

    def seen(self, values: Values) -> Observations:
        """Examples of the data set's own type, shape and values, in the model's units.

        They may be flat, [N, D], and images of one channel need no axis for it.

        Raises:
            InputError: for another shape or type, and for values that the data cannot have.
        """
        if isinstance(values, list) and (not values or isinstance(values[0], str)):
            values = self._of_lines(values)
        tensor = torch.as_tensor(values).detach().cpu()
        self._check_shape(tensor)
        self._check_values(tensor)
        if self._moves and tuple(tensor.shape[1:]) == self.shape:
            tensor = tensor.movedim(-1, 1)
        rows = tensor.flatten(1).contiguous()
        if self.preprocessing.levels is not None:
            rows = rows.to(torch.int32 if self.preprocessing.sequences else torch.uint8)
        return self.preprocessing.units(rows, generator("noise in use", self.seed))

    def restored(self, x: Float[Tensor, "*S D"]) -> Float[Tensor, "*S ..."]:
        """From the model's units to the data set's own values and shape, as real numbers.

        A pixel level k is the mean of its bin [k, k + 1) less ½ where the model has seen noise. The
        levels of sequences are whole, and −1 after the word that ends a line.
        """
        units = self.preprocessing.units
        own = units.restored(x) * units.divisor - 0.5 * units.noisy
        if self.preprocessing.sequences:
            return self._ended(own.round().long())
        own = own.to(x.dtype).unflatten(-1, self.preprocessing.shape)
        return own.movedim(-3, -1) if self._moves else own

    @property
    def vocabulary(self) -> Vocabulary | None:
        """What the levels of sequences stand for; None if that is not known."""
        return self.preprocessing.vocabulary

    def _of_lines(self, lines: list[str]) -> Int[Tensor, "N T"]:
        """The levels of lines of text.

        Raises:
            InputError: for a run on other data, and for lines without a word.
        """
        if self.vocabulary is None:
            raise InputError(
                "the examples are a list, and the run's data were no text: give arrays"
            )
        if not lines or not all(isinstance(line, str) and line.split() for line in lines):
            raise InputError("the examples are a list: give lines of text, each with a word")
        return self.vocabulary.encode(lines, self.preprocessing.shape[0])

    def _ended(self, levels: Int[Tensor, "*S T"]) -> Int[Tensor, "*S T"]:
        """With padding after the word that ends a line."""
        if self.vocabulary is None:
            return levels
        end = levels == self.vocabulary.words.index(END)
        after = end.long().cumsum(dim=-1) - end.long() > 0
        return torch.where(after, PADDING, levels)

    def _check_shape(self, values: Tensor) -> None:
        taken = [self.shape, (math.prod(self.shape),)]
        own = self.preprocessing.shape
        if len(own) == 3 and own[0] == 1:
            taken.append(own[1:])
        if tuple(values.shape[1:]) not in taken or len(values) == 0:
            shapes = " or ".join("[N, " + ", ".join(map(str, shape)) + "]" for shape in taken)
            alone = " (one example needs an axis for it: values[None])"
            raise InputError(
                f"the examples have shape {list(values.shape)}: give "
                f"{shapes}{alone * (tuple(values.shape) in taken)}"
            )

    def _check_values(self, values: Tensor) -> None:
        levels = self.preprocessing.levels
        if levels is None:
            if not values.is_floating_point():
                raise InputError(
                    f"the examples have type {values.dtype} and the run had continuous data: give "
                    "floating-point numbers, in the units of its data"
                )
            if not torch.isfinite(values).all():
                raise InputError("the examples have NaN or infinite values: remove or replace them")
            return
        kind = "words" if self.preprocessing.sequences else "pixel levels"
        if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
            raise InputError(
                f"the examples have type {values.dtype} and the run had {levels} {kind}: "
                f"give integers from 0 to {levels - 1}"
            )
        least, most = int(values.min()), int(values.max())
        if self.preprocessing.sequences:
            ended = values.flatten(1) < 0
            if bool((ended[:, :-1] & ~ended[:, 1:]).any()) or bool(ended[:, 0].any()) or least < -1:
                raise InputError(
                    "the examples have sequences that go on after a −1, or are empty: pad them by "
                    "−1 at the end alone"
                )
            least = max(least, 0)
        if least < 0 or most >= levels:
            raise InputError(
                f"the examples hold values from {least} to {most} and the run had {levels} "
                f"{kind}: give integers from 0 to {levels - 1}"
            )
