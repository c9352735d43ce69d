"""How far a long estimate has come, for whoever shows it."""

from __future__ import annotations

from collections.abc import Callable

#: Called every so often with the fraction of the work that is done, from above 0 to 1.
Progress = Callable[[float], None]


def silent(fraction: float) -> None:
    """Show nothing."""


def portion(progress: Progress, start: float, end: float) -> Progress:
    """The progress of a part that takes the whole from ``start`` to ``end``."""
    return lambda fraction: progress(start + (end - start) * fraction)


class Ticks:
    """Equal parts of a piece of work, one call for each that is done.

    Args:
        progress: told the fraction.
        total: how many calls there will be.
    """

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def __call__(self) -> None:
        """One more part is done."""
        self._done += 1
        self._progress(self._done / self._total)
