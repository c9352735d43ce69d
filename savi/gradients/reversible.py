"""Backpropagation through every inner step of momentum descent, which is run backwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, ClassVar, NamedTuple, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from savi.errors import CombinationError, SettingError
from savi.gradients.base import BACKENDS
from savi.gradients.recompute import RecomputingBackend, Segment
from savi.inner.history import Iterate, Recorder
from savi.inner.loop import InnerLoop
from savi.inner.objective import InnerObjective
from savi.inner.optimizers import GradientDescent
from savi.inner.optimizers.base import InnerOptimizer, Point, Step
from savi.inner.solution import Solution
from savi.types import Rows


@BACKENDS.register("reversible")
@dataclass(frozen=True)
class Reversible(RecomputingBackend):
    """The gradient of ``unrolled`` without stored iterates (Maclaurin et al. 2015).

    The loop runs in integer arithmetic (:class:`ExactMomentum`); the backward undoes its steps one
    by one, bit by bit, from λK to λ0, and pulls the cotangent through each of them. Only the
    log2(1/momentum) bits that each scalar of the velocity loses at a step are kept: 0.15 at a
    momentum of 0.9. The price is two more gradients a step.

    The reversal must arrive where the run began. If it does not, the objective is not
    deterministic, and the backward raises.

    arXiv 1502.03492. It needs a momentum above 0, because what plain descent forgets cannot be
    kept in a few bits, and a problem without constraints, because a projection cannot be undone.
    """

    name: ClassVar[str] = "reversible"
    memory: ClassVar[str] = "O(1)"
    exact: ClassVar[bool] = True
    refuses_constraints: ClassVar[str] = "a projection cannot be undone"
    refuses_optimizers: ClassVar[str] = "only steps with a momentum above 0 can be undone"

    def check_optimizer(self, optimizer: InnerOptimizer) -> None:
        """Refuse all but descent with momentum."""
        super().check_optimizer(optimizer)
        assert isinstance(optimizer, GradientDescent)
        if optimizer.momentum == 0.0:
            reason = "a step without momentum forgets where it came from"
            raise CombinationError(
                f"Reversible with momentum 0: {reason}, so give a momentum above 0 (0.9, say), or "
                "gradient=Checkpointed()",
                in_config=f"gradient 'reversible' with inner.momentum 0: {reason}, so set "
                "inner.momentum above 0 (0.9, say), or gradient=checkpointed",
            )
        as_fraction(optimizer.momentum)

    @classmethod
    def differentiates(cls, optimizer: type[InnerOptimizer]) -> bool:
        """Gradient descent, whose momentum :meth:`check_optimizer` looks at."""
        return issubclass(optimizer, GradientDescent)

    def run(
        self, loop: InnerLoop, objective: InnerObjective, init: Rows
    ) -> tuple[Solution, Callable[[], Iterator[Segment]]]:
        """Run in integers; the segments are single steps, each undone when its turn comes."""
        assert isinstance(loop.optimizer, GradientDescent)
        _, gradient = objective.at_step(0).gradient(init)
        exact = ExactMomentum.like(loop.optimizer.lr, loop.optimizer.momentum, init, gradient)
        recorder = Recorder()
        solution = replace(loop, optimizer=exact).run(
            objective, init, recorder=recorder, through_steps=True
        )

        def segments() -> Iterator[Segment]:
            state = recorder.state
            for step in reversed(range(state.steps)):
                moving = (step < solution.steps).unsqueeze(-1)
                y = init if step == 0 else exact.before(state).to(init.dtype)
                y = torch.where(moving, y, solution.value)
                _, gradient = objective.at_step(step).gradient(y)
                state = exact.undo(state, gradient)
                velocity = (state.velocity.double() * exact.unit).to(init.dtype)
                yield Segment(Iterate(step, y, velocity), 1)
            start = exact.init(init)
            if not (torch.equal(state.position, start.position) and not state.velocity.any()):
                raise RuntimeError(
                    "the gradient backend 'reversible' did not arrive at the start, so the "
                    "objective gives different gradients at the same point: make it "
                    "deterministic, or take 'checkpointed'"
                )

        return solution, segments


#: Numbers are multiples of 2^-46 of a scale of each example, and may reach 32,768 times that scale.
FRACTION_BITS = 46

#: Larger integers are not trusted: a sum of two of them would leave 64 bits.
LARGEST = 2.0**61

#: The lost digits of one scalar fill a 64-bit word up to here; then a new word is begun.
WORD = 2**62

#: A step rounds the velocity to a multiple of n units.
MAX_DENOMINATOR = 1000


#: As :data:`savi.types.Rows`.
Integers: TypeAlias = Int[Tensor, "B P"]


class ExactState(NamedTuple):
    """Position and velocity in the example's unit, and the digits that the velocity has lost.

    ``lost`` is the word of lost digits that is being filled, ``filled`` an upper bound of its
    content, the same for every scalar, and ``words`` are the full words, each with the number of
    steps after which it was put away.
    """

    position: Integers
    velocity: Integers
    lost: Integers
    filled: int
    words: tuple[tuple[int, Integers], ...]
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
        unit: what the integers count, a power of two for each example.
    """

    lr: float
    momentum: Fraction
    unit: Float[Tensor, "B 1"]
    name: ClassVar[str] = "momentum"

    @classmethod
    def like(cls, lr: float, momentum: float, init: Rows, gradient: Rows) -> ExactMomentum:
        """The same method in integers, for runs from ``init`` where ∇J is ``gradient``."""
        scale = init.abs().maximum(lr * gradient.abs()).amax(dim=-1, keepdim=True).double()
        usable = torch.isfinite(scale) & (scale > 0)
        exponent = torch.where(usable, scale, 1.0).log2().ceil() - FRACTION_BITS
        return cls(lr, as_fraction(momentum), torch.exp2(exponent))

    def init(self, y: Rows) -> Any:
        """At rest at y; a row that cannot be represented never moves."""
        position = _to_units(y.double() / self.unit)
        zero = torch.zeros_like(position)
        return ExactState(position, zero, zero, 0, (), 0)

    def step(self, objective: InnerObjective, point: Point, state: Any, create_graph: bool) -> Step:
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
        y = torch.where(_exact(position, velocity), position.double() * self.unit, torch.nan)
        return y.to(point.y.dtype), following

    def before(self, state: ExactState) -> Rows:
        """The position that the last step left, as floating-point numbers."""
        return (state.position - state.velocity).double() * self.unit

    def undo(self, state: ExactState, gradient: Rows) -> ExactState:
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

    def _kick(self, gradient: Rows) -> Integers:
        return _to_units(gradient.detach().double() * (self.lr / self.unit))


def as_fraction(momentum: float) -> Fraction:
    """n/d.

    Raises:
        InputError: if the momentum is no fraction above 0 with a denominator of at most 1000.
    """
    fraction = Fraction(momentum).limit_denominator(MAX_DENOMINATOR)
    if abs(float(fraction) - momentum) > 1e-15 or fraction == 0:
        raise SettingError(
            "momentum",
            f"is {momentum}: exact reversal needs a fraction with a denominator of at most 1000, "
            f"so round it, say to {max(momentum, 0.001):.3f}",
        )
    return fraction


def _to_units(value: Rows) -> Integers:
    """The nearest integers; a sentinel outside the exact range for what is not representable."""
    usable = value.abs() < LARGEST
    return torch.where(usable, value.round(), 2.0 * LARGEST).to(torch.int64)


def _exact(position: Integers, velocity: Integers) -> Bool[Tensor, "B 1"]:
    """Which rows are in the range."""
    inside = (position.abs() < LARGEST) & (velocity.abs() < LARGEST)
    return inside.all(dim=-1, keepdim=True)
