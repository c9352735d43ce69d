"""What a run folder says of itself: how the run was started, and how it ended."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from savi.errors import ImplicitGradientError, InputError
from savi.runs.mappings import Unreadable, read_mapping
from savi.runs.stop import STOP
from savi.runs.whole import NotWritten, write_over, write_text

#: The files of a run folder that hold the record, and the traceback of an unforeseen error.
RECORD, TRACEBACK = "status.json", "error.txt"

#: The first training step that was left out, to be repeated.
BAD_STEP = "bad_step.ckpt"

RUNNING, FINISHED, FAILED, INTERRUPTED = "running", "finished", "failed", "interrupted"

#: The stages of a run, in order. Each can be entered again.
TRAINING, EVALUATION, FIGURES = "training", "evaluation", "figures"


@dataclass(frozen=True)
class Origin:
    """How a run was started: the command line for it alone (empty for a start from Python).

    A job has the name of its sweep, and what all seeds of its setting share, in a word.
    ``again`` is the command line that goes on with a run that has been stopped, and ``remarks``
    what is to be said of the words of this one.
    """

    command: str = ""
    sweep: str | None = None
    setting: str | None = None
    again: str = ""
    remarks: tuple[str, ...] = ()


class Interrupted(Exception):
    """A run was stopped by Ctrl-C or SIGTERM; what there was has been saved."""

    def __init__(self, folder: Path, again: str = "") -> None:
        goes_on = f"; to go on: {again}" if again else ""
        super().__init__(f"interrupted: checkpoints and metrics so far are in {folder}{goes_on}")


@dataclass
class Record:
    """The ``status.json`` of a run that is at work, written anew whenever it changes."""

    folder: Path
    content: dict[str, Any] = field(default_factory=dict)

    def update(self, **changes: Any) -> None:
        """Change entries."""
        self.content |= changes
        # Also on a full disk, of which it tells.
        write_over(self.folder / RECORD, json.dumps(self.content, indent=2) + "\n")

    def enter(self, stage: str) -> None:
        """A stage begins."""
        self.update(stage=stage)


@contextmanager
def recorded(folder: Path, origin: Origin, config: Mapping[str, Any]) -> Iterator[Record]:
    """Write ``config.yaml``, and keep ``status.json`` right during the run and afterwards.

    The latter holds ``state`` (``running``, ``finished``, ``failed`` or ``interrupted``),
    ``stage``, ``reason`` (a sentence, or null), ``command``, ``again`` (the command that goes on
    with the run, or null), ``started`` (at first) and ``ended`` (ISO 8601, UTC). Whatever ends the
    run goes on to the caller; an error that no sentence explains leaves its traceback in
    ``error.txt``.
    """
    earlier = read_record(folder)
    write_text(folder / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False))
    (folder / TRACEBACK).unlink(missing_ok=True)
    record = Record(folder)
    record.update(
        state=RUNNING,
        stage=earlier.get("stage"),
        reason=None,
        command=origin.command,
        again=origin.again or None,
        started=earlier.get("started") or _now(),
        ended=None,
    )
    end: dict[str, Any] = {"state": FINISHED, "stage": None}
    try:
        yield record
    except (Interrupted, KeyboardInterrupt):
        end = {"state": INTERRUPTED, "reason": f"stopped by {STOP.name}"}
        raise
    except BaseException as error:
        end = {"state": FAILED, "reason": reason_of(error)}
        if not _explains_itself(error):
            with suppress(NotWritten):
                write_text(folder / TRACEBACK, traceback.format_exc())
        raise
    finally:
        record.update(ended=_now(), **end)


def read_record(folder: Path) -> dict[str, Any]:
    """What ``status.json`` holds; empty where there is none that can be read."""
    try:
        return read_mapping(folder / RECORD)
    except (OSError, Unreadable):
        return {}


def reason_of(error: BaseException) -> str:
    """Why a run failed, on one line; an error that is not ours is named by its class as well."""
    text = " ".join(str(error).split())
    if _explains_itself(error):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def state_of(folder: Path) -> str | None:
    """The state that a run folder records, or None where there is no record."""
    return read_record(folder).get("state")


def _explains_itself(error: BaseException) -> bool:
    return isinstance(error, InputError | FloatingPointError | ImplicitGradientError | NotWritten)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
