"""Calls of this library that are no inner minimisation of one example, each with its right answer.

Other libraries have no way to state them, so that there is one system to judge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from savi.registry import Registry


@dataclass(frozen=True)
class Call:
    """Something that is asked of the library, in a way that a user would.

    Attributes:
        name: what is special about it.
        ask: makes the call anew; what it answers, in parts that are judged one by one.
        answer: the right parts in float64; None if there is no right answer, so that every finite
            one is wrong.
        well_posed: whether a word about it is a false alarm.
    """

    name: str
    ask: Callable[[], Sequence[Tensor]] = field(repr=False)
    answer: Sequence[Tensor] | None = field(repr=False)
    well_posed: bool = False


#: Families of calls by name: a base seed to a list of calls, hazards and well-posed ones.
CALLS: Registry[Callable[[int], list[Call]]] = Registry("family of calls")


def complex_step(
    end: Callable[[np.ndarray], np.ndarray], theta: Tensor, cotangent: Tensor
) -> Tensor:
    """(d end/dθ)ᵀ w, exact to rounding: Im end(θ + ih e_j) / h with h = 1e-30.

    Args:
        end: θ as complex numbers to what is differentiated, by analytic operations.
        theta: θ, shape [Q].
        cotangent: w, of the shape of what ``end`` returns.
    """
    h, w = 1e-30, cotangent.double().numpy()
    base = theta.detach().double().numpy().astype(complex)
    moved = [end(base + 1j * h * axis).imag / h for axis in np.eye(len(base))]
    return torch.tensor([float((w * change).sum()) for change in moved], dtype=torch.float64)
