"""Examples as their owner has them, and as the model sees them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Shaped
from numpy.typing import NDArray
from torch import Tensor

from savi.data.preprocessing import Preprocessing
from savi.data.randomness import generator
from savi.errors import InputError
from savi.types import Observations

#: What a user hands over: examples side by side.
Values: TypeAlias = Shaped[Tensor, "N ..."] | NDArray[np.generic]


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
        tensor = torch.as_tensor(values).detach().cpu()
        self._check_shape(tensor)
        self._check_values(tensor)
        if self._moves and tuple(tensor.shape[1:]) == self.shape:
            tensor = tensor.movedim(-1, 1)
        rows = tensor.flatten(1).contiguous()
        if self.preprocessing.levels is not None:
            rows = rows.to(torch.uint8)
        return self.preprocessing.units(rows, generator("noise in use", self.seed))

    def restored(self, x: Float[Tensor, "*S D"]) -> Float[Tensor, "*S ..."]:
        """From the model's units to the data set's own values and shape, as real numbers.

        A pixel level k is the mean of its bin [k, k + 1) less ½ where the model has seen noise.
        """
        units = self.preprocessing.units
        own = units.restored(x) * units.divisor - 0.5 * units.noisy
        own = own.to(x.dtype).unflatten(-1, self.preprocessing.shape)
        return own.movedim(-3, -1) if self._moves else own

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
        if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
            raise InputError(
                f"the examples have type {values.dtype} and the run had {levels} pixel levels: "
                f"give integers from 0 to {levels - 1}"
            )
        least, most = int(values.min()), int(values.max())
        if least < 0 or most >= levels:
            raise InputError(
                f"the examples hold values from {least} to {most} and the run had {levels} pixel "
                f"levels: give integers from 0 to {levels - 1}"
            )
