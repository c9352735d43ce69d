"""How far a benchmark has come: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import Progress as Bar


class Progress:
    """Counts the parts of a piece of work; a context manager.

    Args:
        parts: how many calls of ``advance`` there will be.
    """

    def __init__(self, parts: int) -> None:
        # Bound to the file: a benchmark may look at what is written to sys.stdout meanwhile.
        console = Console(file=sys.stdout)
        self._bar = Bar(console=console, transient=True, disable=not sys.stdout.isatty())
        self._task = self._bar.add_task("", total=parts)

    def __enter__(self) -> Self:
        self._started = time.perf_counter()
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def advance(self, label: str) -> None:
        """One more part is done; ``label`` says of what."""
        self._bar.update(self._task, advance=1, description=label)

    def say(self, line: str) -> None:
        """A line that stays, with the seconds since the start."""
        seconds = time.perf_counter() - self._started
        self._bar.console.print(f"{line} ({seconds:.0f} s)", highlight=False, markup=False)
