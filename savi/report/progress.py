"""A bar for long work in a terminal, a line elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def shown(what: str) -> Iterator[Callable[[float], None]]:
    """Show how far some work has come.

    Args:
        what: the work, in a few words.

    Yields:
        A function to call with the fraction that is done.
    """
    if not sys.stdout.isatty():
        print(what, flush=True)
        yield lambda fraction: None
        return
    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task(what, total=1.0)
        yield lambda fraction: bar.update(task, completed=fraction)
