"""What a run folder says of itself: how the run was started, and how it ended."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from savi.errors import InputError
from savi.gradients import ImplicitGradientError

#: The files of a run folder that hold the record, and the traceback of an unforeseen error.
RECORD, TRACEBACK = "status.json", "error.txt"

RUNNING, FINISHED, FAILED, INTERRUPTED = "running", "finished", "failed", "interrupted"


@dataclass(frozen=True)
class Origin:
    """How a run was started: the command line for it alone (empty for a start from Python).

    A job has the name of its sweep, and what all seeds of its setting share, in a word.
    """

    command: str = ""
    sweep: str | None = None
    setting: str | None = None


class Interrupted(Exception):
    """Training was stopped by Ctrl-C; what there was has been saved."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"interrupted: checkpoints and metrics so far are in {folder}")


@contextmanager
def recorded(folder: Path, origin: Origin, config: Mapping[str, Any]) -> Iterator[None]:
    """Write ``config.yaml``, and keep ``status.json`` right during the run and afterwards.

    The latter holds ``state`` (``running``, ``finished``, ``failed`` or ``interrupted``),
    ``reason`` (a sentence, or null), ``command``, ``started`` and ``ended`` (ISO 8601, UTC).
    Whatever ends the run goes on to the caller; an error that no sentence explains leaves its
    traceback in ``error.txt``.
    """
    record = {"state": RUNNING, "reason": None, "command": origin.command}
    record |= {"started": _now(), "ended": None}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(dict(config), sort_keys=False))
    _write(folder, record)
    try:
        yield
    except (Interrupted, KeyboardInterrupt):
        record |= {"state": INTERRUPTED, "reason": "stopped by Ctrl-C"}
        raise
    except BaseException as error:
        record |= {"state": FAILED, "reason": reason_of(error)}
        if not _explains_itself(error):
            (folder / TRACEBACK).write_text(traceback.format_exc())
        raise
    else:
        record["state"] = FINISHED
    finally:
        record["ended"] = _now()
        _write(folder, record)


def reason_of(error: BaseException) -> str:
    """Why a run failed, on one line; an error that is not ours is named by its class as well."""
    text = " ".join(str(error).split())
    if _explains_itself(error):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def state_of(folder: Path) -> str | None:
    """The state that a run folder records, or None where there is no record."""
    try:
        return json.loads((folder / RECORD).read_text())["state"]
    except (OSError, ValueError, KeyError):
        return None


def _explains_itself(error: BaseException) -> bool:
    return isinstance(error, InputError | FloatingPointError | ImplicitGradientError)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _write(folder: Path, record: dict[str, Any]) -> None:
    """Replace the record in one move: a reader never sees half of it."""
    part = folder / f".{RECORD}"
    part.write_text(json.dumps(record, indent=2) + "\n")
    part.replace(folder / RECORD)
