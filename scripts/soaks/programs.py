"""savi's programs in processes of their own, to be stopped and held against each other."""

from __future__ import annotations

import atexit
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from savi.errors import InputError
from savi.experiments.checkpoint import read_checkpoint
from savi.runs.record import read_record

SCRIPTS = Path(__file__).resolve().parents[1]

#: A process that has imported everything, from which others are forked.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["savi.commands", "savi.experiments.run", "savi.replicas", "sklearn.datasets"]
)

#: A run of a second or two.
TINY = (
    "debug=quick", "logger=csv", "data.limit=60", "data.batch_size=16", "trainer.max_epochs=3",
    "trainer.log_every_n_steps=2", "model.hidden=4", "model.latent_dim=2", "inner.max_steps=3",
    "evaluation.ais_examples=0", "evaluation.gap_examples=0", "evaluation.autoencoder_steps=0",
    "evaluation.importance_samples=8", "callbacks.figures=false",
)  # fmt: skip

#: These are a machine's, not a run's.
OF_MACHINE = frozenset({"cost/step_seconds", "cost/peak_memory_mb"})

#: No trial takes so many seconds.
PATIENCE = 600


class Program:
    """A program that is at work, in a session of its own, and writes to ``log.txt`` beside it.

    Args:
        arguments: of ``savi-train``.
        folder: where it is started.
        anew: whether it imports everything itself, as a user's does; otherwise it is forked from a
            process that has.
    """

    def __init__(self, arguments: tuple[str, ...], folder: Path, *, anew: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.begun, self._log = time.monotonic(), folder / "log.txt"
        self._fork = self._anew = None
        if anew:
            with self._log.open("wb") as log:
                self._anew = subprocess.Popen(
                    [sys.executable, str(SCRIPTS / "train.py"), *arguments],
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env=os.environ | {"OMP_NUM_THREADS": "1"},
                )
            self.pid = self._anew.pid
        else:
            self._fork = FORKS.Process(target=_forked, args=(arguments, folder, self._log))
            self._fork.start()
            assert self._fork.pid is not None
            self.pid = self._fork.pid

    def send(self, number: int, *, to_all: bool) -> None:
        """Send a signal to it, or to its whole session, as a terminal does."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number) if to_all else os.kill(self.pid, number)

    def wait(self) -> int:
        """Its exit code, when it is over: below 0 for a signal that has ended it."""
        if self._fork is not None:
            self._fork.join(PATIENCE)
            code = self._fork.exitcode
        else:
            assert self._anew is not None
            with suppress(subprocess.TimeoutExpired):
                self._anew.wait(PATIENCE)
            code = self._anew.returncode
        if code is None:
            self.send(signal.SIGKILL, to_all=True)
            raise TimeoutError(f"still at work after {PATIENCE} s: {self.output()[-2000:]}")
        return code

    @property
    def over(self) -> bool:
        """Whether it is."""
        if self._fork is not None:
            return self._fork.exitcode is not None
        assert self._anew is not None
        return self._anew.poll() is not None

    def sleep_until(self, moment: float) -> None:
        """Wait until it has been at work for so many seconds, or is over."""
        while not self.over and time.monotonic() < self.begun + moment:
            time.sleep(0.002)

    def left_behind(self) -> list[str]:
        """Processes of its session that do not end within some seconds; they are killed then."""
        end = time.monotonic() + 10
        while (alive := _in_session(self.pid)) and time.monotonic() < end:
            time.sleep(0.05)
        if alive:
            self.send(signal.SIGKILL, to_all=True)
        return [f"process {process} lives on" for process in alive]

    def output(self) -> str:
        """What it has said, with its errors."""
        return self._log.read_text("utf-8", errors="replace")


def _in_session(session: int) -> list[str]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if words[3] == str(session) and words[0] != "Z":
            found.append(stat.parent.name)
    return found


def _forked(arguments: tuple[str, ...], folder: Path, log: Path) -> None:
    os.setsid()
    os.chdir(folder)
    for stream in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    os.truncate(log, 0)
    sys.stdout, sys.stderr = (os.fdopen(s, "w", 1, "utf-8", closefd=False) for s in (1, 2))
    sys.argv = [str(SCRIPTS / "train.py"), *arguments]
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    from savi.cli import train

    try:
        train()
    finally:
        # Processes of multiprocessing leave these out.
        atexit._run_exitfuncs()


def finished(arguments: tuple[str, ...], folder: Path, *, anew: bool = False) -> float:
    """Have a program come to its end; returns after how many seconds.

    Raises:
        RuntimeError: if it does not end well.
    """
    program = Program(arguments, folder, anew=anew)
    if code := program.wait():
        raise RuntimeError(f"exit code {code}: {program.output()[-2000:]}")
    return time.monotonic() - program.begun


def runs_in(folder: Path) -> list[str]:
    """The run folders in a folder, by their names in it."""
    return sorted(str(path.parent.relative_to(folder)) for path in folder.rglob("status.json"))


def differences(folder: Path, whole: Path) -> list[str]:
    """In what the runs in a folder differ from those that nobody has stopped, to the last bit."""
    if (found := runs_in(folder)) != (wanted := runs_in(whole)):
        return [f"the runs are {found} and not {wanted}"]
    return [f"{name}: {fault}" for name in wanted for fault in _faults(folder / name, whole / name)]


def _faults(run: Path, whole: Path) -> list[str]:
    faults = []
    if (state := read_record(run).get("state")) != "finished":
        faults.append(f"is {state}")
    try:
        figures, wanted = (_figures(path) for path in (run, whole))
        faults += [
            f"{key} is {figures.get(key)} and not {wanted.get(key)}"
            for key in sorted(figures.keys() | wanted.keys())
            if figures.get(key) != wanted.get(key)
        ]
        if (run / "metrics.csv").read_bytes() != (whole / "metrics.csv").read_bytes():
            faults.append("has another metrics.csv")
        for name in ("best", "last"):
            weights, wanted = (
                read_checkpoint(path / f"checkpoints/{name}.ckpt")["state_dict"]
                for path in (run, whole)
            )
            if weights.keys() != wanted.keys() or not all(
                torch.equal(weights[key], wanted[key]) for key in wanted
            ):
                faults.append(f"has other weights in {name}.ckpt")
    except (OSError, ValueError, InputError) as error:
        faults.append(f"cannot be read: {error}")
    return faults + [f"has left {part.name}" for part in run.rglob("*.part")]


def _figures(run: Path) -> dict[str, Any]:
    figures = json.loads((run / "metrics.json").read_text())
    return {key: value for key, value in figures.items() if key not in OF_MACHINE}


@dataclass(frozen=True)
class Kind:
    """What is started, stopped and continued: by the same command, into ``runs`` of a folder."""

    arguments: tuple[str, ...]
    anew: bool = False


#: The folder of the runs, in the folder in which a program is started.
RUNS = "disk/runs"

_RUN = (*TINY, f"hydra.run.dir={RUNS}", "resume=auto")
_SWEEP = (
    "-m", *TINY, f"hydra.sweep.dir={RUNS}", "experiment=vae", "seed=0,1",
)  # fmt: skip

KINDS = {
    "vae, figures": Kind((*_RUN, "experiment=vae", "callbacks.figures=true")),
    "savi_ift": Kind((*_RUN, "experiment=savi_ift")),
    "svi, within epochs": Kind(
        (*_RUN, "experiment=svi", "callbacks.checkpoint_every_n_minutes=1e-9")
    ),
    "hypergradient": Kind(
        (*_RUN, "experiment=hypergradient", "hypergradient.every_n_steps=2",
         "callbacks.checkpoint_every_n_minutes=1e-9")
    ),
    "replicas": Kind((*_RUN, "experiment=vae", "trainer.replicas=2")),
    "sweep": Kind(_SWEEP),
    "joblib sweep": Kind(
        (*_SWEEP, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"), anew=True
    ),
}  # fmt: skip
