"""Disks that fill up at any moment: nothing that was whole is lost, and one sentence says so."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from savi.errors import InputError
from savi.experiments.checkpoint import read_checkpoint
from savi.runs.record import FAILED, read_record
from soaks import Tally, soak
from soaks.programs import KINDS, RUNS, Program, differences, finished, runs_in

#: What is tried in turn.
ORDER = ("savi_ift", "vae, figures", "svi, within epochs", "sweep", "replicas", "vae, figures")


@soak("disks", "a full disk loses nothing that was whole, and one sentence says so", trials=12)
def disks(trials: int, seed: int, folder: Path) -> Tally:
    """Fill the disk of a run at a random moment; make room later, and continue the run.

    Raises:
        InputError: for a user who may not make a disk.
    """
    chance, tally, seconds = random.Random(seed), Tally(), {}
    for trial in range(trials):
        name = ORDER[trial % len(ORDER)]
        if name not in seconds:
            seconds[name] = finished(KINDS[name].arguments, folder / name)
        moment, full = chance.uniform(0, seconds[name]), folder / f"trial {trial}"
        with _disk(full / Path(RUNS).parts[0]) as disk:
            faults = _filled(name, full, disk, folder / name / RUNS, moment)
        tally.add(*(f"trial {trial}, {name} after {moment:.2f} s: {fault}" for fault in faults))
    return tally


@contextmanager
def _disk(folder: Path) -> Iterator[Path]:
    """A small disk of its own."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "none", str(folder)]
    if error := subprocess.run(mount, capture_output=True, text=True, check=False).stderr:
        raise InputError(f"no disk can be made for the soak 'disks': run it as root ({error})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _filled(name: str, folder: Path, disk: Path, whole: Path, moment: float) -> list[str]:
    kind, filler = KINDS[name], disk / "filler"
    program = Program(kind.arguments, folder)
    program.sleep_until(moment)
    _fill(filler)
    code, output = program.wait(), program.output()
    faults = [*_told(code, output, folder / RUNS), *_parts_of_files(folder / RUNS)]
    filler.unlink()
    program = Program(kind.arguments, folder)
    if code := program.wait():
        return [*faults, f"continued, exit code {code}: {program.output()[-1000:]}"]
    return faults + differences(folder / RUNS, whole)


def _fill(path: Path) -> None:
    """Write until there is no room for another byte."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                continue


def _told(code: int, output: str, runs: Path) -> list[str]:
    """Whether the program and its records say what has happened."""
    if code == 0:
        # It had written all by then.
        return [] if "cannot be written" not in output else [f"exit code 0: {output[-1000:]}"]
    sentences = [line for line in output.splitlines() if "cannot be written" in line]
    faults = []
    if code != 1 or not sentences or "Traceback" in output:
        faults.append(f"exit code {code}: {output[-1500:]}")
    for name in runs_in(runs):
        record = read_record(runs / name)
        state, reason = record.get("state"), record.get("reason")
        if state == FAILED and not any(str(reason) in line for line in sentences):
            faults.append(f"{name} is {state}: {reason}")
        if state not in (FAILED, "finished"):
            faults.append(f"{name} is {state}")
    return faults


def _parts_of_files(runs: Path) -> list[str]:
    """Files that are there, and not whole."""
    faults = [f"a part is left: {part}" for part in runs.rglob("*.part")]
    readers = {".ckpt": read_checkpoint, ".json": _read_json, ".yaml": _read_yaml}
    for path in sorted(runs.rglob("*")):
        if path.suffix in readers:
            try:
                readers[path.suffix](path)
            except (ValueError, yaml.YAMLError, InputError) as error:
                faults.append(f"{path.name} is not whole: {error}")
    return faults


def _read_json(path: Path) -> object:
    return json.loads(path.read_text("utf-8"))


def _read_yaml(path: Path) -> object:
    return yaml.safe_load(path.read_text("utf-8"))
