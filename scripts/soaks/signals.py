"""Ctrl-C and SIGTERM at any moment of a program: one sentence, the exit code, what there is."""

from __future__ import annotations

import random
import shutil
import signal
import time
from pathlib import Path

from savi.runs.record import read_record
from soaks import Tally, soak
from soaks.programs import RUNS, TINY, Program, finished, runs_in

_RUN = (*TINY, f"hydra.run.dir={RUNS}")
_SWEEP = ("-m", *TINY, f"hydra.sweep.dir={RUNS}", "experiment=vae", "seed=0,1")

#: What is stopped in turn. Each imports everything itself: a signal may come then, too.
KINDS = {
    "a run": (*_RUN, "experiment=savi_ift", "callbacks.figures=true"),
    "two devices": (*_RUN, "experiment=vae", "trainer=ddp", "trainer.accelerator=cpu",
                    "trainer.devices=2"),
    "a sweep": _SWEEP,
    "a joblib sweep": (*_SWEEP, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
}  # fmt: skip

NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


@soak("signals", "each stops a program with one sentence, its code and its record", trials=40)
def signals(trials: int, seed: int, folder: Path) -> Tally:
    """Spread signals over programs from start to end."""
    chance, tally, seconds = random.Random(seed), Tally(), {}
    for trial in range(trials):
        name = list(KINDS)[trial % len(KINDS)]
        if name not in seconds:
            seconds[name] = finished(KINDS[name], folder / name, anew=True)
        turn = (trial // len(KINDS) + chance.random()) / (-(-trials // len(KINDS)))
        number = chance.choice(list(NAMES))
        # A terminal sends Ctrl-C to all of a program's processes, a cluster SIGTERM to all or one.
        to_all = number == signal.SIGINT or chance.random() < 0.5
        stopped, moment = folder / f"trial {trial}", turn * seconds[name]
        faults = _stopped(name, stopped, moment, number, to_all)
        what = f"trial {trial}, {name}, {NAMES[number]}{' to all' * to_all} after {moment:.2f} s"
        tally.add(*(f"{what}: {fault}" for fault in faults))
        if not faults:
            shutil.rmtree(stopped)
    return tally


def _stopped(
    name: str, folder: Path, moment: float, number: signal.Signals, to_all: bool
) -> list[str]:
    """What is wrong with a program after a signal, or with what it leaves."""
    program = Program(KINDS[name], folder, anew=True)
    _wait_for_the_handler(program)
    program.sleep_until(moment)
    program.send(number, to_all=to_all)
    code, output = program.wait(), program.output()
    records = [read_record(folder / RUNS / run) for run in runs_in(folder / RUNS)]
    faults = [*_faults(code, output, records, number), *program.left_behind()]
    return faults + [f"a part is left: {part}" for part in folder.rglob("*.part")]


def _faults(code: int, output: str, records: list[dict], number: signal.Signals) -> list[str]:
    sentences = [line for line in output.splitlines() if line.startswith("savi: ")]
    over = {record["state"] for record in records} <= {"finished"}
    faults = []
    if "Traceback" in output:
        faults.append(f"a traceback: {output[-1500:]}")
    # A signal may come when everything is done; it then ends what is left of the program.
    done = records and over and not sentences and code in (0, -number)
    if not done and (code != 128 + number or len(sentences) != 1):
        faults.append(f"exit code {code} and {sentences}: {output[-500:]}")
    for record in records:
        state, reason = record["state"], record.get("reason")
        if state == "interrupted" and reason != f"stopped by {NAMES[number]}":
            faults.append(f"its record says {reason}")
        if state not in ("interrupted", "finished"):
            faults.append(f"its record says that it is {state}")
    return faults


def _wait_for_the_handler(program: Program) -> None:
    """Before it, Python itself is starting, which nobody's program can answer for."""
    status, bit = Path(f"/proc/{program.pid}/status"), 1 << (signal.SIGTERM - 1)
    while not program.over:
        caught = status.read_text().partition("SigCgt:")[2].split()[:1]
        if caught and int(caught[0], 16) & bit:
            return
        time.sleep(0.001)
