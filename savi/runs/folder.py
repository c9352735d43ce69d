"""A run folder belongs to one process and to one config."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from savi.errors import InputError
from savi.runs.mappings import Unreadable, read_mapping
from savi.runs.record import BAD_STEP, FINISHED, RECORD, state_of
from savi.runs.whole import NotWritten, remove_parts
from savi.settings import flatten

#: What a run leaves in its folder.
CONTENTS = (
    "metrics.csv", "metrics.json", "collapse.json", "checkpoints", "figures", "config.yaml", RECORD,
    "error.txt", "log.txt", "wandb", BAD_STEP,
)  # fmt: skip

#: No file of a run has a longer name while it is written.
_LONGEST = "checkpoints/.best.before.ckpt.part"

#: The file that a process locks for as long as it works in the folder.
LOCK = ".lock"

#: Settings that leave the results of a run as they are.
INCIDENTAL = frozenset(
    {
        *("logger", "resume", "trainer.threads", "trainer.enable_progress_bar"),
        *("trainer.max_bad_steps", "callbacks.figures", "callbacks.media_every_n_epochs"),
        *("callbacks.checkpoint_every_n_minutes", "callbacks.gradient_check_every_n_steps"),
        *("callbacks.gradient_check_examples", "callbacks.gradient_check_reference"),
    }
)


def require_folder(path: Path) -> None:
    """Refuse what is no folder, in which no run can be.

    Raises:
        InputError: if it is none.
    """
    if not path.is_dir():
        raise InputError(f"'{path}' is no folder: give a run's folder or a sweep's")


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
    earlier = read_config(folder)
    if earlier is None:
        return None
    if different := differences(earlier, config, meant):
        key, (before, now) = next(iter(different.items()))
        raise InputError(
            f"'{folder}' holds a job with another {key}: choose another hydra.sweep.dir (it was "
            f"{before}, and is now {now})"
        )
    return read_metrics_json(folder) if state_of(folder) == FINISHED else None


def read_config(folder: Path) -> dict[str, Any] | None:
    """The ``config.yaml`` of a run folder; None where there is none that can be read."""
    return _mapping(folder / "config.yaml")


def read_metrics_json(folder: Path) -> dict[str, float] | None:
    """The ``metrics.json`` of a run folder; None where there is none that can be read."""
    metrics = _mapping(folder / "metrics.json")
    return metrics if metrics is None or all(map(_is_number, metrics.values())) else None


def _mapping(path: Path) -> dict[str, Any] | None:
    try:
        return read_mapping(path)
    except (OSError, Unreadable):
        return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def contents(folder: Path) -> list[str]:
    """What a run has left in a folder, by name."""
    return [name for name in CONTENTS if (folder / name).exists()]


def clear(folder: Path) -> None:
    """Remove what a run has left in a folder, and nothing else."""
    for path in (folder / name for name in contents(folder)):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def make(folder: Path, key: str) -> None:
    """Make a folder for runs, if need be.

    Args:
        folder: that is needed.
        key: of the setting that names it.

    Raises:
        InputError: if it cannot be, or cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            (folder / _LONGEST).lstat()
    except OSError as error:
        raise InputError(
            f"{key} '{folder}' cannot be used: {error.strerror}: choose another folder"
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{key} '{folder}' cannot be written to: choose another folder")


def require_unused(folder: Path) -> None:
    """Refuse a folder that a run has left something in.

    Raises:
        InputError: if there is anything.
    """
    if held := contents(folder):
        raise InputError(
            f"hydra.run.dir '{folder}' holds a run already ({', '.join(held)}): choose another, or "
            "go on with it by resume=auto"
        )


@contextmanager
def claimed(folder: Path, *, again: bool) -> Iterator[None]:
    """Hold the folder, made if need be, for this process alone.

    Args:
        folder: the run folder.
        again: whether a run may have left something there; otherwise such a folder is refused.

    Raises:
        InputError: if another process holds the folder, or it holds a run already.
    """
    if folder.resolve() == Path.cwd():
        raise InputError("hydra.run.dir is the current folder: give the run a folder of its own")
    if not again:
        require_unused(folder)
    make(folder, "hydra.run.dir")
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"another process is at work in '{folder}': wait for it, or choose another folder"
        ) from None
    except OSError as error:
        raise NotWritten(folder / LOCK, error) from error
    try:
        remove_parts(folder)
        yield
    finally:
        if not contents(folder):
            # Nothing has come of it.
            (folder / LOCK).unlink(missing_ok=True)
        lock.release()


def is_claimed(folder: Path) -> bool:
    """Whether a process is at work in the folder."""
    # Whatever else there is by that name, no process holds it.
    if not (folder / LOCK).is_file():
        return False
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False


def differences(
    earlier: Mapping[str, Any],
    later: Mapping[str, Any],
    meant: Mapping[str, Any] | None = None,
    aside: Collection[str] = INCIDENTAL,
) -> dict[str, tuple[Any, Any]]:
    """The keys in which two configs differ, in alphabetical order, with both values.

    Those ``aside`` are passed over, which by default leave the results as they are. A key that is
    not there is None, or, in the earlier one, what its absence has ``meant``, by dotted name.
    """
    before, now = {**(meant or {}), **flatten(earlier)}, flatten(later)
    return {
        key: (before.get(key), now.get(key))
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not _is_among(key, aside)
    }


def _is_among(key: str, names: Collection[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in names)
