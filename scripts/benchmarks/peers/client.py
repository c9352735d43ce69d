"""A worker, seen from the process that asks it."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from queue import Empty, Queue
from tempfile import TemporaryFile
from threading import Thread
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.limits import environment
from benchmarks.peers.systems import Settings


class WorkerError(Exception):
    """A system that has failed, and why."""


class Answered(NamedTuple):
    """Where the inner solve of a system ended, and its gradient in one piece."""

    value: NDArray[np.float32]
    gradient: NDArray[np.float32]


class Worker:
    """One system in its own process, which does nothing until it is asked; a context manager.

    Attributes:
        note: what the system has found out in its warm-up.

    Raises:
        WorkerError: if the system does not get ready.
    """

    def __init__(
        self, name: str, path: Path, threads: int, settings: Settings, timeout: float
    ) -> None:
        self._timeout = timeout
        self._errors = TemporaryFile("w+")  # noqa: SIM115  (closed with the process)
        command = [sys.executable, "-m", "benchmarks.peers.worker", name, str(path), str(threads)]
        command.append(json.dumps(asdict(settings)))
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._errors}
        self._process = subprocess.Popen(command, text=True, env=environment(threads), **pipes)
        self._lines: Queue[str] = Queue()
        Thread(target=self._read, daemon=True).start()
        try:
            self.note: str = self._answer()["note"]
        except BaseException:
            self.close()
            raise

    def seconds(self, least: float) -> float:
        """The median time of one outer step, of as many as begin within ``least`` seconds."""
        seconds: float = self._ask(seconds=least)["seconds"]
        return seconds

    def answer(self, path: Path) -> Answered:
        """The result of one outer step, by way of a file."""
        self._ask(path=str(path))
        with np.load(path) as file:
            parts = [file[f"g{i}"].ravel() for i in range(len(file.files) - 1)]
            answer = Answered(file["z"], np.concatenate(parts))
        path.unlink()
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            assert stream is not None
            # An order that the process did not live to read.
            with suppress(BrokenPipeError):
                stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def _ask(self, **order: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            print(json.dumps(order), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            raise WorkerError(self._last_words()) from None
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=self._timeout)
        except Empty:
            raise WorkerError(f"no answer in {self._timeout:g} s") from None
        if not line:
            raise WorkerError(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        if "failure" in answer:
            raise WorkerError(answer["failure"].strip().splitlines()[0])
        return answer

    def _read(self) -> None:
        """Every line, and an empty one at the end."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def _last_words(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        return f"the process ended with code {code}" + (f": {lines[-1]}" if lines else "")
