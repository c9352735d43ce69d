"""What Ctrl-C and SIGTERM do: stop a run at once, or where it can be gone on with."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

#: The signals by which a user, a cluster or a shell ends a run.
SIGNALS = (signal.SIGINT, signal.SIGTERM)

#: With what a process exits that one of them has ended.
CODES = tuple(128 + number for number in SIGNALS)


class Stop:
    """A handler of :data:`SIGNALS`, which raises ``KeyboardInterrupt`` for either.

    While it is ``patient`` it only takes note of the first one: whoever is at work looks at
    ``asked`` where it can stop with everything in order. A second one does not wait.

    Attributes:
        signal: the last one that came, or None.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._at, self._patient = 0.0, False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """A signal has come."""
        if self.note(signal.Signals(number)) or not self._patient:
            raise KeyboardInterrupt

    def note(self, number: signal.Signals) -> bool:
        """Take note of a signal; returns whether it is another one than the first.

        A terminal and whoever has started the process may both hand on the same one.
        """
        now, first = time.monotonic(), self.signal is None
        second = not first and (number != self.signal or now - self._at > 1)
        if first:
            self._at = now
        self.signal = number
        return second

    @property
    def asked(self) -> bool:
        """Whether a signal has come."""
        return self.signal is not None

    @property
    def code(self) -> int:
        """The exit code of a process that a signal has ended: 130 or 143."""
        return 128 + (self.signal or signal.SIGINT)

    @property
    def name(self) -> str:
        """What has stopped the run, in words."""
        return "SIGTERM" if self.signal is signal.SIGTERM else "Ctrl-C"

    def install(self) -> dict[signal.Signals, object]:
        """Handle the signals from now on; returns the handlers before."""
        # Python lets no other thread do so; there the program around it decides.
        if threading.current_thread() is not threading.main_thread():
            return {}
        # A process in the background of a script ignores Ctrl-C.
        heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        return {number: signal.signal(number, self) for number in heard}

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handle the signals inside."""
        self.signal, before = None, self.install()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)  # type: ignore[arg-type]

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Inside, a process that has been started deaf hears signals, those before it too."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    @contextmanager
    def patient(self) -> Iterator[None]:
        """Inside, take note of the first signal and let the work go on."""
        self._patient = True
        try:
            yield
        finally:
            self._patient = False


#: The one of this process.
STOP = Stop()
