"""A sweep whose jobs are at work in processes of joblib's launcher: its signals and its end."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

from joblib.externals.loky.backend import resource_tracker

from savi.runs.stop import SIGNALS, STOP

#: What tells the workers which process is the sweep's.
_SWEEP = "SAVI_SWEEP_PROCESS"

_at_work = threading.Lock()


class Relay(threading.Thread):
    """Hands the signals that come to this process on to those of joblib's launcher.

    Joblib would kill its workers, whose jobs would lose what they have. A worker begins deaf to
    signals, as this process then is, and hears them while it does a job, which stops where it can
    go on. A second signal kills the workers.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True, name="signals")
        self._over = threading.Event()
        os.environ[_SWEEP] = str(os.getpid())
        # Its start would have this process hear signals again.
        resource_tracker.ensure_running()
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        self.start()

    def run(self) -> None:
        """Wait for signals."""
        told: set[int] = set()
        while not self._over.wait(0.05):
            if not signal.sigpending().isdisjoint(SIGNALS):
                number = signal.Signals(signal.sigwait(SIGNALS))
                if STOP.note(number):
                    _send(workers(), signal.SIGKILL)
            if STOP.signal is not None:
                # Those too that have only now been started.
                _send(workers() - told, STOP.signal)
                told |= workers()

    def close(self) -> None:
        """Leave the signals to this process again."""
        self._over.set()
        self.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)


@contextmanager
def in_worker() -> Iterator[None]:
    """Do a job in a worker: after a kill of the sweep's process it is the worker's last one."""
    _outlive_by_a_job()
    with _at_work:
        yield


@cache
def _outlive_by_a_job() -> None:
    """End this process when that of the sweep is gone and no job is at work; joblib's stay."""

    def watch() -> None:
        sweep = int(os.environ.get(_SWEEP, os.getppid()))
        while os.getppid() == sweep:
            time.sleep(0.5)
        with _at_work:
            os._exit(1)

    threading.Thread(target=watch, daemon=True, name="sweep").start()


def workers() -> set[int]:
    """The processes of joblib's launcher."""
    loky = sys.modules.get("joblib.externals.loky.reusable_executor")
    executor = getattr(loky, "_executor", None)
    return set(getattr(executor, "_processes", None) or ())


def _send(processes: set[int], number: int) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)
