"""Heavy-ball descent in integer arithmetic, which can be run backwards to the last bit."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from savi.errors import InputError
from savi.inner.objective import InnerObjective
from savi.inner.optimizers.base import InnerOptimizer, Point

#: Numbers are multiples of 2^-44, so that |y| may reach 1e5; coarser than float64, finer than
#: float32 for numbers above 1e-6.
FRACTION_BITS = 44
UNIT = 2.0**-FRACTION_BITS

#: Larger integers are not trusted: a sum of two of them would leave 64 bits.
LARGEST = 2.0**61

#: The lost digits of one scalar fill a 64-bit word up to here; then a new word is begun.
WORD = 2**62

#: A step rounds the velocity to a multiple of n units.
MAX_DENOMINATOR = 1000


class ExactState(NamedTuple):
    """Position and velocity in units of 2^-44, and the digits that the velocity has lost.

    Attributes:
        position: y.
        velocity: v.
        lost: the word of lost digits that is being filled.
        filled: an upper bound of its content, the same for every scalar.
        words: the full words, each with the number of steps after which it was put away.
        steps: steps taken.
    """

    position: Int[Tensor, "B P"]
    velocity: Int[Tensor, "B P"]
    lost: Int[Tensor, "B P"]
    filled: int
    words: tuple[tuple[int, Int[Tensor, "B P"]], ...]
    steps: int


@dataclass(frozen=True)
class ExactMomentum(InnerOptimizer):
    """v ← (n/d) v − α∇J(y);  y ← y + v, with integers in place of floating-point numbers.

    The sums are invertible as they stand. The product with the momentum n/d < 1 loses log2(d/n)
    bits of v a step, which are moved to a buffer i (Maclaurin et al. 2015, arXiv 1502.03492,
    algorithm 3):

        i ← i d + (v mod d);  v ← ⌊v/d⌋ n + (i mod n);  i ← ⌊i/n⌋.

    Args:
        lr: α.
        momentum: n/d.
    """

    lr: float
    momentum: Fraction
    name: ClassVar[str] = "momentum"

    @classmethod
    def like(cls, lr: float, momentum: float) -> ExactMomentum:
        """The same method in integers.

        Raises:
            InputError: if the momentum is no fraction with a denominator of at most 1000.
        """
        fraction = Fraction(momentum).limit_denominator(MAX_DENOMINATOR)
        if abs(float(fraction) - momentum) > 1e-15:
            raise InputError(
                f"gradient 'reversible' with inner.momentum {momentum}: exact reversal needs a "
                f"fraction with a denominator of at most 1000, so round it, say to {momentum:.3f}"
            )
        return cls(lr, fraction)

    def init(self, y: Float[Tensor, "B P"]) -> Any:
        """At rest at y; a row that cannot be represented never moves."""
        position = _to_units(y.double() / UNIT)
        zero = torch.zeros_like(position)
        return ExactState(position, zero, zero, 0, (), 0)

    def step(
        self, objective: InnerObjective, point: Point, state: Any, create_graph: bool
    ) -> tuple[Float[Tensor, "B P"], Any]:
        """One step; NaN where a number leaves the range that is exact."""
        n, d = self.momentum.as_integer_ratio()
        lost, filled, words = state.lost, state.filled, state.words
        if filled * d + d > WORD:
            words = (*words, (state.steps, lost))
            lost, filled = torch.zeros_like(lost), 0
        lost = lost * d + state.velocity % d
        velocity = (state.velocity // d) * n + lost % n
        velocity = velocity - self._kick(point.gradient)
        position = state.position + velocity
        following = ExactState(
            position, velocity, lost // n, (filled * d + d - 1) // n, words, state.steps + 1
        )
        y = torch.where(_exact(position, velocity), position.double() * UNIT, torch.nan)
        return y.to(point.y.dtype), following

    def before(self, state: ExactState) -> Float[Tensor, "B P"]:
        """The position that the last step left, in units of 1."""
        return (state.position - state.velocity).double() * UNIT

    def undo(self, state: ExactState, gradient: Float[Tensor, "B P"]) -> ExactState:
        """The state before the last step, given the gradient that the step used."""
        n, d = self.momentum.as_integer_ratio()
        velocity, words = state.velocity + self._kick(gradient), state.words
        lost = state.lost * n + velocity % n
        velocity = (velocity // n) * d + lost % d
        lost = lost // d
        if words and words[-1][0] == state.steps - 1:
            *words_before, (_, lost) = words
            words = tuple(words_before)
        # How full the word was matters to forward steps only.
        position = state.position - state.velocity
        return ExactState(position, velocity, lost, 0, words, state.steps - 1)

    def _kick(self, gradient: Float[Tensor, "B P"]) -> Int[Tensor, "B P"]:
        return _to_units(gradient.detach().double() * (self.lr / UNIT))


def _to_units(value: Float[Tensor, "B P"]) -> Int[Tensor, "B P"]:
    """The nearest integers; a sentinel outside the exact range for what is not representable."""
    usable = value.abs() < LARGEST
    return torch.where(usable, value.round(), 2.0 * LARGEST).to(torch.int64)


def _exact(position: Int[Tensor, "B P"], velocity: Int[Tensor, "B P"]) -> Bool[Tensor, "B 1"]:
    """Which rows are in the range."""
    inside = (position.abs() < LARGEST) & (velocity.abs() < LARGEST)
    return inside.all(dim=-1, keepdim=True)
