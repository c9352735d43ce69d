"""How far a benchmark has come, and silence about what says nothing of a measurement."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

from rich.console import Console
from rich.progress import Progress as Bar

from savi.implicit.reporter import CERTIFICATE_WARNINGS

#: Told the label of each call that is done: :meth:`Progress.advance`.
Advance = Callable[[str], None]


class Progress:
    """Counts the parts of a piece of work: a bar on a terminal, plain lines elsewhere.

    A context manager; ``parts`` is how many calls of ``advance`` there will be.
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

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def advance(self, label: str) -> None:
        """One more part is done; ``label`` says of what."""
        self._bar.update(self._task, advance=1, description=label)

    def say(self, line: str) -> None:
        """A line that stays, with the seconds since the start."""
        seconds = time.perf_counter() - self._started
        self._bar.console.print(f"{line} ({seconds:.0f} s)", highlight=False, markup=False)


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, what certificates find is not shown; it is computed all the same.

    Nor is it shown that torch's forward-mode AD calls a deprecated function, and that
    ``torch.compile`` looks at the gradient of every input.
    """
    with warnings.catch_warnings():
        for category in CERTIFICATE_WARNINGS:
            warnings.simplefilter("ignore", category)
        warnings.filterwarnings("ignore", ".*torch.jit.script.*", category=FutureWarning)
        warnings.filterwarnings("ignore", "The .grad attribute of a Tensor", category=UserWarning)
        yield
