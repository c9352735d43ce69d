"""A program in a process of its own that may not take long, nor much memory."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import time
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import NamedTuple

from soaks.forked import execute

SCRIPTS = Path(__file__).resolve().parents[1]

#: A process that has imported everything, from which others are forked.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["savi.commands", "savi.experiments.run", "savi.experiments.reload", "savi.report.html",
     "benchmark"]
)  # fmt: skip

#: After so many seconds of a processor a program is asked to end, and after as many more it hangs.
SECONDS = 15

#: After so many seconds as they pass, at work or not, it hangs too, on the busiest machine.
PATIENCE = 300

#: The most memory of its own that a program may set aside: what a run of a few examples needs
#: many times over. A request for more fails, as where there is no more.
MEMORY = 4 << 30


class Ended(NamedTuple):
    """How a program has ended.

    Attributes:
        code: its exit code; None if it had to be killed.
        asked: whether it was asked to end.
        said: what it wrote to its output, and to its errors.
        memory: the most that it held, in bytes.
    """

    code: int | None
    asked: bool
    said: tuple[str, str]
    memory: int


def ended(code: str, arguments: list[str], folder: Path, seconds: float = SECONDS) -> Ended:
    """Run ``python -c code arguments`` in a folder, to its end."""
    beside = folder.with_name(f"{folder.name} streams")
    beside.mkdir()
    process = FORKS.Process(target=_run, args=(code, arguments, folder, beside))
    process.start()
    assert process.pid is not None
    if asked := not _over(process, seconds):
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
        _over(process, seconds + SECONDS)
    exit_code = process.exitcode
    if exit_code is None:
        process.kill()
        process.join()
    out, errors = ((beside / name).read_text("utf-8", "replace") for name in ("1", "2"))
    held = beside / "memory"
    return Ended(exit_code, asked, (out, errors), int(held.read_text()) if held.is_file() else 0)


def _over(process: ForkServerProcess, seconds: float) -> bool:
    """Wait until a process is over, or has worked for so many seconds."""
    until = time.monotonic() + max(PATIENCE, seconds)
    while process.exitcode is None and time.monotonic() < until:
        process.join(0.1)
        with suppress(OSError, IndexError):
            # Those in the process itself and in the system, after its name in brackets.
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            if (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") > seconds:
                break
    return process.exitcode is not None


def _run(code: str, arguments: list[str], folder: Path, beside: Path) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    os.chdir(folder)
    try:
        execute(code, ["savi", *arguments], (beside / "1", beside / "2"))
    finally:
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        (beside / "memory").write_text(str(1024 * held))
