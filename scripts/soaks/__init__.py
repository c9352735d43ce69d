"""What savi is put through: each soak does a thing many times and counts what went wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from savi.errors import unknown_option


@dataclass
class Tally:
    """How often something was tried, and every way in which it did not go as it should."""

    tried: int = 0
    faults: list[str] = field(default_factory=list)

    def add(self, *faults: str) -> None:
        """One more trial, and what was wrong with it, if anything."""
        self.tried += 1
        self.faults += faults


#: Makes so many trials with random numbers from a seed, in an empty folder.
Soak = Callable[[int, int, Path], Tally]


@dataclass(frozen=True)
class Known:
    """A soak, the sentence of the table, and how many trials it makes if left alone."""

    run: Soak
    claim: str
    trials: int


SOAKS: dict[str, Known] = {}


def soak(name: str, claim: str, trials: int) -> Callable[[Soak], Soak]:
    """Register a soak, by the name that the command line takes."""

    def register(run: Soak) -> Soak:
        SOAKS[name] = Known(run, claim, trials)
        return run

    return register


def known(name: str) -> Known:
    """The soak of this name.

    Raises:
        InputError: if there is none.
    """
    if name not in SOAKS:
        raise unknown_option("soak", name, SOAKS)
    return SOAKS[name]
