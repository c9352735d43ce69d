"""What a system under test is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar, NamedTuple, TypeVar

from benchmarks.peers.problem import Problem
from benchmarks.systems import TestedSystem
from savi.registry import Registry

SYSTEMS: Registry[type[System]] = Registry("system")

Choice = TypeVar("Choice")


class NotReached(Exception):
    """A solver that does not get as far as it is asked to."""


@dataclass(frozen=True)
class Settings:
    """What all systems are told."""

    steps: int  # K of the part ``fixed``
    lr: float  # α of its gradient descent
    rtol: float  # the stationarity ‖∇J(z)‖ / ‖∇J(z0)‖ to be reached in the part ``converged``
    fraction: float  # of the examples that must have reached it
    max_steps: int  # after which a solver of that part has failed


class Answer(NamedTuple):
    """Where the inner solve ended, [B, d], and ∂L/∂W₁, ∂L/∂b₁, …: arrays of any library."""

    value: Any
    gradient: Iterable[Any]


class System(TestedSystem, ABC):
    """A way to solve the inner problems and to differentiate the outer loss in the weights.

    The constructor imports the library and finds out whatever the solve depends on (step sizes,
    numbers of steps); none of this is timed.
    """

    label: ClassVar[str]  # its name in tables
    part: ClassVar[str]  # ``fixed`` (K steps of gradient descent) or ``converged``
    #: what it is compared with: ``ift``, ``unrolled``, ``stop``, ``first_order`` or
    #: ``second_order``.
    kind: ClassVar[str]
    note: str = ""  # what was found out

    @abstractmethod
    def __init__(self, problem: Problem, settings: Settings) -> None: ...

    @abstractmethod
    def step(self) -> Answer:
        """One whole outer step, finished when it returns."""


def best_of_grid(
    grid: Iterable[Choice], stationarities: Callable[[Choice], Iterable[float]], settings: Settings
) -> tuple[Choice, int]:
    """Which choice solves enough examples in the fewest steps, and in how many.

    Args:
        grid: the choices.
        stationarities: for a choice, what ‖∇J‖ / ‖∇J(z0)‖ keeps below in the asked for fraction
            of the examples, after 0, 1, 2, … steps.
        settings: what to reach.
    """
    best: tuple[Choice, int] | None = None
    limit = settings.max_steps
    for choice in grid:
        for steps, stationarity in enumerate(islice(stationarities(choice), limit + 1)):
            if stationarity <= settings.rtol:
                best, limit = (choice, steps), steps - 1
                break
    if best is None:
        raise _not_reached(settings)
    return best


def fewest_steps(stationarity_after: Callable[[int], float], settings: Settings) -> int:
    """The least number of steps that solves enough examples, by doubling and bisection."""
    low, high = 0, 1
    while not stationarity_after(high) <= settings.rtol:
        if high >= settings.max_steps:
            raise _not_reached(settings)
        low, high = high, min(2 * high, settings.max_steps)
    while high - low > 1:
        middle = (low + high) // 2
        if stationarity_after(middle) <= settings.rtol:
            high = middle
        else:
            low = middle
    return high


def _not_reached(settings: Settings) -> NotReached:
    return NotReached(
        f"{settings.fraction:.0%} of the examples do not reach {settings.rtol:g} in "
        f"{settings.max_steps} steps"
    )
