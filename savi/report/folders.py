"""The runs in folders, and the jobs of sweeps that have left none."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from savi.errors import InputError
from savi.report.runs import Run, is_run, missing_run, read_run
from savi.runs.folder import require_folder
from savi.runs.mappings import read_mapping

NOT_SEARCHED = frozenset({"wandb", "checkpoints", "figures"})
"""Folders of a run in which no other run lies."""


@dataclass(frozen=True)
class Sweep:
    """A sweep as its ``sweep.json`` lists it.

    Attributes:
        jobs: run folder -> overrides; empty where a sweeper chooses as it goes.
        trials: how many runs a sweeper was asked for, or None.
    """

    folder: Path
    command: str
    jobs: dict[Path, tuple[str, ...]]
    trials: int | None


@dataclass(frozen=True)
class Found:
    """All runs below some folders, each once, jobs that never started among them.

    Trials that a sweeper was asked for and has not started are only counted.
    """

    runs: tuple[Run, ...]
    sweeps: tuple[Sweep, ...]
    unstarted: int


def find_runs(paths: Sequence[Path]) -> Found:
    """Read every run in or below the folders, in natural order of their names.

    Raises:
        InputError: for a path that is no folder, and for a folder without any run or sweep.
    """
    if not paths:
        raise InputError("no run is given: savi-report RUN_OR_SWEEP_FOLDER ...")
    names: dict[Path, str] = {}
    given: dict[Path, Path] = {}
    sweeps: dict[Path, Sweep] = {}
    overrides: dict[Path, tuple[str, ...]] = {}
    for path in paths:
        require_folder(path)
        runs, of_path = _walk(path)
        if not runs and not of_path:
            raise InputError(f"there is no run in or below '{path}': give a run's folder")
        jobs = [folder for sweep in of_path for folder in sweep.jobs if not _covered(folder, runs)]
        for folder in [*runs, *jobs]:
            given.setdefault(folder.resolve(), folder)
            names.setdefault(folder.resolve(), _name(folder, path, len(paths) > 1))
        for sweep in of_path:
            sweeps[sweep.folder.resolve()] = sweep
            overrides |= {folder.resolve(): words for folder, words in sweep.jobs.items()}
    names = _unique(names)
    read = []
    for folder in sorted(names, key=lambda folder: _natural(names[folder])):
        kind = read_run if is_run(given[folder]) else missing_run
        read.append(kind(given[folder], names[folder], overrides.get(folder, ())))
    return Found(tuple(read), tuple(sweeps.values()), sum(map(_unstarted, sweeps.values())))


def _walk(top: Path) -> tuple[list[Path], list[Sweep]]:
    """Run folders and sweeps in and below a folder."""
    runs, sweeps = [], []
    for folder in tree(top):
        if is_run(folder):
            runs.append(folder)
        if (folder / "sweep.json").is_file():
            sweeps.append(_sweep(folder))
    # A folder that only records a job whose runs lie below it is not a run beside them.
    above = {parent for run in runs for parent in run.parents}
    own = ("metrics.json", "metrics.csv")
    own_runs = [r for r in runs if r not in above or any((r / name).is_file() for name in own)]
    return own_runs, sweeps


def tree(top: Path) -> Iterator[Path]:
    """A folder and those below it, in the order of their names; one that is closed is passed over.

    Not by calls of itself, which only go so deep.
    """
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        yield folder
        with suppress(OSError):
            children = sorted(folder.iterdir(), reverse=True)
            waiting += [child for child in children if _is_searched(child)]


def _is_searched(child: Path) -> bool:
    named = child.name not in NOT_SEARCHED and not child.name.startswith(".")
    return named and child.is_dir() and not child.is_symlink()


def _sweep(folder: Path) -> Sweep:
    """Read a ``sweep.json``.

    Raises:
        InputError: if it is damaged, since the missing jobs would go unnoticed.
    """
    try:
        content = read_mapping(folder / "sweep.json")
        jobs = {
            folder / job["folder"]: tuple(map(str, job.get("overrides") or ()))
            for job in content.get("jobs") or ()
        }
        trials = content.get("trials")
        for job in jobs:
            # Whether it can be a folder at all.
            is_run(job.resolve())
        return Sweep(folder, str(content.get("command") or ""), jobs, trials and int(trials))
    except (
        *(OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RuntimeError),
    ) as error:
        raise InputError(
            f"{folder / 'sweep.json'} is damaged ({' '.join(str(error).split())}): mend it, or "
            "give the folders of the runs"
        ) from error


def _covered(job: Path, runs: Sequence[Path]) -> bool:
    """Whether a job has left a run, in its folder or below it."""
    return any(run == job or job in run.parents for run in runs)


def _unstarted(sweep: Sweep) -> int:
    started = len(_walk(sweep.folder)[0])
    return max(0, sweep.trials - started) if sweep.trials and not sweep.jobs else 0


def _name(folder: Path, given: Path, several: bool) -> str:
    """A run's path below the folder that was given."""
    top = given.resolve().name
    if folder == given:
        return top
    below = folder.relative_to(given).as_posix()
    return f"{top}/{below}" if several else below


def _unique(names: dict[Path, str]) -> dict[Path, str]:
    """The names, with the whole path in place of one that two runs share."""
    counts = Counter(names.values())
    return {
        folder: name if counts[name] == 1 else folder.as_posix() for folder, name in names.items()
    }


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sort key that puts ``run-10`` behind ``run-9``."""
    parts = re.findall(r"\d+|\D+", name)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]
