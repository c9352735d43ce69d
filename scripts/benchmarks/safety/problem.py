"""What an inner problem of the benchmark is, and how its right answer is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.reference import Energy, implicit_gradient, minimiser
from savi.registry import Registry

#: The family in which nothing is wrong: a word about its problems is a false alarm.
CONTROL = "well_posed"


@dataclass(frozen=True)
class Problem:
    """Find λ* = argmin_y J(y; θ) from λ0, and answer (dλ*/dθ)ᵀ w.

    Attributes:
        name: what is special about it, with its seed.
        energy: J.
        theta: θ, shape [Q].
        init: λ0, shape [1, P]; its type is the type of the whole solve.
        cotangent: w, shape [1, P].
        lr: the step size of gradient descent.
        max_steps: K.
        answer: (dλ*/dθ)ᵀ w in float64, shape [Q], where λ* is the local minimiser that descent
            from λ0 leads to; None if there is no such minimiser or it has no derivative, so that
            every finite answer is wrong.
        rtol: the solve stops at ‖∇J‖ ≤ rtol ‖∇J(λ0)‖.
        newton: solve by Newton's method, where gradient descent would take 1/κ steps. Its
            ``lr`` is not used.
    """

    name: str
    energy: Energy = field(repr=False)
    theta: Float[Tensor, " Q"]
    init: Float[Tensor, "1 P"]
    cotangent: Float[Tensor, "1 P"]
    lr: float
    max_steps: int
    answer: Float[Tensor, " Q"] | None
    rtol: float = 1e-3
    newton: bool = False


#: Families of problems by name: a base seed to a list of problems.
FAMILIES: Registry[Callable[[int], list[Problem]]] = Registry("family")


def implicit_answer(
    energy: Energy, theta: Tensor, start: Float[Tensor, "1 P"], cotangent: Float[Tensor, "1 P"]
) -> Float[Tensor, " Q"]:
    """The right answer of a problem whose minimiser has a nonsingular Hessian."""
    return implicit_gradient(energy, theta, minimiser(energy, theta, start), cotangent)


class Draw:
    """Random numbers of one problem, that depend on its seeds alone.

    Args:
        seeds: the base seed, and what tells the problem from its siblings.
        dtype: the type of the problem. Numbers are drawn in float64, so that the same problem in
            float32 differs by rounding.
    """

    def __init__(self, *seeds: int, dtype: torch.dtype = torch.float64) -> None:
        number = 0
        for seed in seeds:
            number = (1_000_003 * number + seed) % 2**63
        self._generator, self.dtype = torch.Generator().manual_seed(number), dtype

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers."""
        draw = torch.randn(*shape, generator=self._generator, dtype=torch.float64)
        return draw.to(self.dtype)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Numbers between ``low`` and ``high``."""
        draw = torch.rand(*shape, generator=self._generator, dtype=torch.float64)
        return (low + (high - low) * draw).to(self.dtype)

    def signs(self, *shape: int) -> Tensor:
        """±1, each with probability ½."""
        return torch.where(self.uniform(*shape) < 0.5, -1.0, 1.0).to(self.dtype)

    def rotation(self, size: int) -> Float[Tensor, "P P"]:
        """A random orthogonal matrix."""
        return torch.linalg.qr(self.normal(size, size).double())[0].to(self.dtype)


def alternate(index: int) -> torch.dtype:
    """Float32 and float64 in turns."""
    return torch.float64 if index % 2 else torch.float32
