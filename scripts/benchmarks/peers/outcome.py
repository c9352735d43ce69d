"""What was measured of a system on a problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.systems import SYSTEMS, System
from benchmarks.timing import Timing


@dataclass(frozen=True)
class Judgement:
    """How good the answer of a system is."""

    error: float  # of its gradient, against that at the exact minimisers which its solve leads to
    #: of its gradient, against the same K steps and the same kind of derivative in double
    #: precision; None where there is no such number.
    deviation: float | None
    stationarity: NDArray[np.float64]  # ‖∇J(z)‖ / ‖∇J(z0)‖ of every example

    @property
    def off_by(self) -> float:
        """What rounding, wrong settings or a saddle point have done to the gradient.

        After K steps the solve is what it is, and no system is to blame for it.
        """
        return self.error if self.deviation is None else self.deviation


@dataclass
class Outcome:
    """One system on one problem."""

    part: str  # ``fixed`` or ``converged``
    data_dim: int  # D
    name: str  # of the system
    timing: Timing  # its seconds, round by round; or the reason why there are none
    judgement: Judgement | None = None  # None where there is no answer
    note: str = ""  # what the system has found out in its warm-up

    @property
    def system(self) -> type[System]:
        """The system's class."""
        return SYSTEMS[self.name]

    def is_right(self, tolerance: float) -> bool:
        """Whether it has answered, with a gradient as it should be."""
        if self.judgement is None or not self.timing.seconds:
            return False
        return self.judgement.off_by <= tolerance

    def rows(self) -> list[dict[str, Any]]:
        """Lines of ``peers.csv``: one for each round, or one that says what has failed."""
        found = self.judgement
        middle, tail = np.quantile(found.stationarity, [0.5, 0.95]) if found else (None, None)
        first = {"part": self.part, "D": self.data_dim, "system": self.name}
        last = {"error": found and found.error, "deviation": found and found.deviation}
        last |= {"stationarity_median": middle, "stationarity_95": tail}
        last |= {"note": self.note, "failure": self.timing.refusal}
        rounds: list[tuple[int, float | None]] = [*enumerate(self.timing.seconds, start=1)]
        return [
            first | {"round": number, "seconds": seconds} | last
            for number, seconds in rounds or [(0, None)]
        ]
