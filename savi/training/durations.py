"""How long steps take, in memory that does not grow with their number."""

from __future__ import annotations

import math
from collections import Counter

#: A duration is kept to a thousandth of itself.
RESOLUTION = 1e-3


class Durations:
    """Counts of durations by their logarithm, from which the median is read.

    Attributes:
        counts: how many lie within ``RESOLUTION`` of each multiple of it, in logarithms of seconds.
    """

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()

    def __len__(self) -> int:
        return self.counts.total()

    def add(self, seconds: float) -> None:
        """One more."""
        self.counts[round(math.log(max(seconds, 1e-9)) / RESOLUTION)] += 1

    @property
    def median(self) -> float:
        """In seconds."""
        seen = 0
        for place in sorted(self.counts):
            seen += self.counts[place]
            if 2 * seen >= len(self):
                return math.exp(place * RESOLUTION)
        return math.nan

    def state_dict(self) -> dict[int, int]:
        """The counts, for a checkpoint."""
        return dict(self.counts)

    def load_state_dict(self, state: dict[int, int]) -> None:
        """Go on counting."""
        self.counts = Counter(state)
