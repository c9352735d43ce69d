"""A run folder belongs to one process and to one config."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from savi.errors import InputError
from savi.runs.record import FINISHED, RECORD, state_of
from savi.settings import flatten

#: What a run leaves in its folder.
CONTENTS = (
    "metrics.csv", "metrics.json", "collapse.json", "checkpoints", "figures", "config.yaml", RECORD,
    "error.txt", "log.txt", "wandb",
)  # fmt: skip

#: The file that a process locks for as long as it works in the folder.
LOCK = ".lock"

#: Settings that leave the results of a run as they are.
INCIDENTAL = frozenset({"logger", "callbacks", "trainer.threads", "trainer.enable_progress_bar"})


def finished_metrics(
    folder: Path, config: Mapping[str, Any], meant: Mapping[str, Any] | None = None
) -> dict[str, float] | None:
    """The ``metrics.json`` of a job that an earlier start of its sweep has finished, or None.

    Args:
        folder: of the job.
        config: that it would have now.
        meant: see :func:`differences`.

    Raises:
        InputError: if the folder holds a run of another config.
    """
    file = folder / "config.yaml"
    if not file.is_file():
        return None
    earlier = yaml.safe_load(file.read_text())
    if different := differences(earlier, config, meant):
        key, (before, now) = next(iter(different.items()))
        raise InputError(
            f"'{folder}' holds a job with another {key}: choose another hydra.sweep.dir (it was "
            f"{before}, and is now {now})"
        )
    if state_of(folder) != FINISHED:
        return None
    return json.loads((folder / "metrics.json").read_text())


@contextmanager
def claimed(folder: Path, *, again: bool) -> Iterator[None]:
    """Hold the folder, made if need be, for this process alone.

    Args:
        folder: the run folder.
        again: whether to clear what an unfinished run has left there; otherwise it is refused.

    Raises:
        InputError: if another process holds the folder, or it holds a run already.
    """
    if folder.resolve() == Path.cwd():
        raise InputError("hydra.run.dir is the current folder: give the run a folder of its own")
    held = [name for name in CONTENTS if (folder / name).exists()]
    if held and not again:
        raise InputError(
            f"hydra.run.dir '{folder}' holds a run already ({', '.join(held)}): choose another"
        )
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"another process is at work in '{folder}': wait for it, or choose another folder"
        ) from None
    try:
        for path in (folder / name for name in held):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        yield
    finally:
        lock.release()


def is_claimed(folder: Path) -> bool:
    """Whether a process is at work in the folder."""
    if not (folder / LOCK).exists():
        return False
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except Timeout:
        return True


def differences(
    earlier: Mapping[str, Any], later: Mapping[str, Any], meant: Mapping[str, Any] | None = None
) -> dict[str, tuple[Any, Any]]:
    """The keys in which two configs differ, in alphabetical order, with both values.

    Those that leave the results as they are are passed over. A key that is not there is None, or,
    in the earlier one, what its absence has ``meant``, by dotted name.
    """
    before, now = {**(meant or {}), **flatten(earlier)}, flatten(later)
    return {
        key: (before.get(key), now.get(key))
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not _is_incidental(key)
    }


def _is_incidental(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in INCIDENTAL)
