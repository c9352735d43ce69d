"""Kills at any moment: the same command goes on, to the same weights and figures."""

from __future__ import annotations

import random
import shutil
import signal
import time
from pathlib import Path

from savi.runs.folder import is_claimed
from soaks import Tally, soak
from soaks.programs import KINDS, PATIENCE, RUNS, Program, differences, finished, runs_in

#: What is killed in turn; the programs of joblib's launcher take longest to start.
ORDER = (
    "vae, figures", "savi_ift", "sweep", "svi, within epochs", "replicas",
    "hypergradient", "sweep", "savi_ift", "svi, within epochs", "joblib sweep",
)  # fmt: skip


@soak("kills", "every run goes on after a kill -9, to the same bits", trials=100)
def kills(trials: int, seed: int, folder: Path) -> Tally:
    """Kill a program at a random moment, continue it, and hold it against one left alone."""
    chance, tally, seconds = random.Random(seed), Tally(), {}
    for trial in range(trials):
        name = ORDER[trial % len(ORDER)]
        kind, whole = KINDS[name], folder / name
        if name not in seconds:
            seconds[name] = finished(kind.arguments, whole, anew=kind.anew)
        moment, to_all = chance.uniform(0, seconds[name]), chance.random() < 0.5
        stopped = folder / f"trial {trial}"
        faults = _killed(name, stopped, whole / RUNS, moment, to_all)
        tally.add(*(f"trial {trial}, {name} after {moment:.2f} s: {fault}" for fault in faults))
        if not faults:
            shutil.rmtree(stopped)
    return tally


def _killed(name: str, folder: Path, whole: Path, moment: float, to_all: bool) -> list[str]:
    """What is wrong with a run that has been killed after so many seconds, and continued."""
    kind = KINDS[name]
    program = Program(kind.arguments, folder, anew=kind.anew)
    program.sleep_until(moment)
    program.send(signal.SIGKILL, to_all=to_all)
    program.wait()
    _wait_for_orphans(folder / RUNS)
    faults = program.left_behind()
    program = Program(kind.arguments, folder, anew=kind.anew)
    if code := program.wait():
        return [*faults, f"exit code {code}: {program.output()[-1000:]}"]
    return faults + differences(folder / RUNS, whole)


def _wait_for_orphans(folder: Path) -> None:
    """The processes of a launcher may live on, and finish the jobs that they are at."""
    end = time.monotonic() + PATIENCE
    while any(is_claimed(folder / name) for name in runs_in(folder)) and time.monotonic() < end:
        time.sleep(0.1)
