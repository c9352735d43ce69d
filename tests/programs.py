"""Programs in processes of their own."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

from soaks.forked import execute

#: A process that has imported everything, and from which others are forked: the imports take
#: longer than most of the programs.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["savi.commands", "savi.experiments.run"])

STREAMS = ("stdout.txt", "stderr.txt")


def finished(code: str, *arguments: str, cwd: Path) -> tuple[int, str]:
    """The exit code of ``python -c code arguments``, and its output with its errors."""
    process = started(code, *arguments, cwd=cwd)
    process.join()
    assert process.exitcode is not None
    return process.exitcode, streams(cwd)


def started(code: str, *arguments: str, cwd: Path) -> multiprocessing.context.ForkServerProcess:
    """The same process, which goes on meanwhile; one at a time in a folder."""
    process = FORKS.Process(target=_run, args=(code, arguments, cwd))
    process.start()
    return process


def streams(cwd: Path) -> str:
    """The output of the last process in a folder that is over, with its errors."""
    files = [cwd / name for name in STREAMS]
    output = "".join(file.read_text("utf-8") for file in files)
    for file in files:
        file.unlink()
    return output


def finished_alone(code: str, *arguments: str, cwd: Path) -> tuple[int, str]:
    """The same of a program that leaves processes behind, which would be waited for."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def _run(code: str, arguments: tuple[str, ...], cwd: Path) -> None:
    os.chdir(cwd)
    sys.path.insert(0, "")
    execute(code, ["-c", *arguments], (cwd / STREAMS[0], cwd / STREAMS[1]))
