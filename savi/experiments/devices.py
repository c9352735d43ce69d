"""The processes of a run on several devices: which of them a signal stops, and who ends them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytorch_lightning as pl
from lightning_fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher

from savi.runs.stop import SIGNALS

#: So many seconds the first process has to notice that it is alone, and to say why.
GRACE = 10.0

_LOOK = _ChildProcessObserver._run


@contextmanager
def led(trainer: pl.Trainer) -> Iterator[None]:
    """Leave it to the first process to stop the others, and to say how the run ended.

    A terminal sends Ctrl-C to all of them; those that Lightning starts are deaf to signals, so that
    the first one stops where the run can go on, and ends them.
    """
    launcher = trainer.strategy.launcher
    if not isinstance(launcher, _SubprocessScriptLauncher):
        yield
        return
    over = threading.Event()

    def looked(observer: _ChildProcessObserver) -> bool:
        # Lightning kills the first process if another one has ended badly. It may have ended that
        # one itself, and be about to write down why.
        ended = [child for child in observer._child_processes if child.poll()]
        return (bool(ended) and over.wait(GRACE)) or _LOOK(observer)

    _ChildProcessObserver._run = looked  # type: ignore
    launcher._call_children_scripts = _deaf(launcher._call_children_scripts)  # type: ignore[method-assign]
    try:
        yield
    finally:
        over.set()


def _deaf(start: Callable[[], None]) -> Callable[[], None]:
    """Start processes that no signal reaches but a kill; those of this one come afterwards."""

    def started() -> None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    return started
