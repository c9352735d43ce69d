"""A finished, failed or unfinished run as its folder tells it, whatever is missing there."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from savi.errors import InputError
from savi.report.figures.curves import Series, read_metrics
from savi.runs.folder import LOCK, is_claimed
from savi.runs.mappings import Unreadable, read_mapping
from savi.runs.record import RECORD, TRACEBACK
from savi.settings import flatten

#: The most that a page takes of what no run writes so large: curves, a picture, a traceback.
PICTURE_BYTES, TRACEBACK_BYTES = 1 << 24, 1 << 16

STATES = ("failed", "interrupted", "missing", "unknown", "running", "finished")
"""Every state of a run; those that ask for attention come first."""


@dataclass(frozen=True)
class Verdict:
    """Whether and how the posterior collapsed, as ``collapse.json`` says.

    The ``kind`` is "none" where it did not, and ``name`` the kind in words. With it come the mean
    KL of every latent dimension in nats, and a histogram of posterior standard deviations.
    """

    kind: str
    name: str
    reason: str
    kl_per_dimension: tuple[float, ...] = ()
    sigma_edges: tuple[float, ...] = ()
    sigma_counts: tuple[float, ...] = ()


@dataclass(frozen=True)
class Run:
    """What a run folder holds; what it does not hold is empty.

    Attributes:
        name: what the report calls it.
        state: one of ``STATES``.
        reason: why it is in that state, where there is something to say.
        command: a command line that starts this run alone.
        config: the run's config, nested.
        overrides: the job's overrides, for a run of a sweep.
        metrics: the final figures.
        figures: the pictures, in alphabetical order.
        traceback: where an unforeseen error came from.
        faults: what could not be read, a sentence for each file.
    """

    folder: Path
    name: str
    state: str
    reason: str = ""
    command: str = ""
    started: datetime | None = None
    ended: datetime | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, Series] = field(default_factory=dict)
    figures: tuple[Path, ...] = ()
    verdict: Verdict | None = None
    traceback: str = ""
    faults: tuple[str, ...] = ()

    @cached_property
    def options(self) -> dict[str, Any]:
        """The config by dotted keys."""
        return flatten(self.config)

    @property
    def words(self) -> list[str]:
        """The words of the command, also of one that no shell would read."""
        try:
            return shlex.split(self.command)
        except ValueError:
            return self.command.split()

    @property
    def duration(self) -> timedelta | None:
        """From start to end, or None while either is unknown."""
        return self.ended - self.started if self.started and self.ended else None


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run, or what is left of one."""
    if any((folder / name).is_file() for name in (RECORD, "metrics.json", "metrics.csv")):
        return True
    return (folder / "config.yaml").is_file() and (folder / "checkpoints").is_dir()


def read_run(folder: Path, name: str, overrides: tuple[str, ...] = ()) -> Run:
    """Read a run folder; a file that is missing or damaged costs its own part alone."""
    faults: list[str] = []
    record = _mapping(folder / RECORD, faults)
    metrics = {
        metric: float(value)
        for metric, value in _mapping(folder / "metrics.json", faults).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    state, reason = _state(folder, record, metrics)
    return Run(
        folder=folder,
        name=name,
        state=state,
        reason=reason,
        command=str(record.get("command") or ""),
        started=_time(record.get("started")),
        ended=_time(record.get("ended")),
        config=_mapping(folder / "config.yaml", faults),
        overrides=overrides,
        metrics=metrics,
        curves=_curves(folder / "metrics.csv", faults),
        figures=_pictures(folder / "figures", faults),
        verdict=_verdict(_mapping(folder / "collapse.json", faults)),
        traceback=_traceback(folder / TRACEBACK),
        faults=tuple(faults),
    )


def missing_run(folder: Path, name: str, overrides: tuple[str, ...]) -> Run:
    """A job that a sweep lists and that has left nothing."""
    reason = "the sweep lists it, but it never started"
    return Run(folder, name, "missing", reason, overrides=overrides)


def _state(
    folder: Path, record: Mapping[str, Any], metrics: Mapping[str, float]
) -> tuple[str, str]:
    """The recorded state, or what the files of a run without a record suggest."""
    if record.get("state") == "running" and (folder / LOCK).exists() and not is_claimed(folder):
        again = f"; to go on: {record['again']}" if record.get("again") else ""
        return "failed", f"its process ended without a word: out of memory, or killed{again}"
    if record.get("state") in STATES:
        return record["state"], str(record.get("reason") or "")
    if any(name.startswith("test/") for name in metrics):
        return "finished", ""
    if (folder / "metrics.json").is_file():
        return "interrupted", "it has no test figures"
    return "unknown", "there is no record of how it ended"


def _is_there(path: Path, faults: list[str]) -> bool:
    """Whether there is a file; anything else by its name is a fault."""
    if path.is_file():
        return True
    if path.exists() or path.is_symlink():
        kind = "a folder" if path.is_dir() else "no file"
        faults.append(f"{path.name} is {kind}")
    return False


def _pictures(folder: Path, faults: list[str]) -> tuple[Path, ...]:
    """The pictures that can be shown, in alphabetical order."""
    found = []
    for path in sorted(folder.glob("*.png")):
        if not _is_there(path, faults):
            continue
        try:
            if path.stat().st_size > PICTURE_BYTES:
                raise InputError(f"it has more than {PICTURE_BYTES:,} bytes")
            with Image.open(path, formats=["png"]) as image:
                image.verify()
        except Exception as error:  # Image libraries fail on foreign bytes in any way they like.
            problem = "it is no picture" if isinstance(error, UnidentifiedImageError) else error
            faults.append(f"{path.name} cannot be shown: {' '.join(str(problem).split())}")
        else:
            found.append(path)
    return tuple(found)


def _traceback(path: Path) -> str:
    """The last of it, where it says what went wrong."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TRACEBACK_BYTES))
        return file.read(TRACEBACK_BYTES).decode("utf-8", errors="replace")


def _mapping(path: Path, faults: list[str]) -> dict[str, Any]:
    """The mapping in a JSON or YAML file; empty, with a fault noted, where there is none."""
    if not _is_there(path, faults):
        return {}
    try:
        return read_mapping(path)
    except Unreadable as error:
        faults.append(f"{path.name} {error}")
    except OSError as error:
        faults.append(f"{path.name} cannot be read: {error.strerror or error}")
    return {}


def _curves(path: Path, faults: list[str]) -> dict[str, Series]:
    if not _is_there(path, faults) or not path.stat().st_size:
        return {}
    try:
        curves = read_metrics(path)
        with path.open("rb") as file:
            file.seek(-1, 2)
            if file.read() != b"\n":
                faults.append("metrics.csv is cut short: its last row may lack figures, or digits")
    except (InputError, OSError, ValueError) as error:
        faults.append(f"metrics.csv cannot be read: {' '.join(str(error).split())}")
        return {}
    return {name: series for name, series in curves.items() if name != "epoch"}


def _time(value: object) -> datetime | None:
    """A moment in UTC, also where the zone is left out; None for anything else."""
    try:
        time = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def _verdict(content: Mapping[str, Any]) -> Verdict | None:
    if not content:
        return None
    kind, flat = str(content.get("kind") or "none"), flatten(content)
    reason = str(content.get("sentence") or content.get("reason") or "")
    lists = ("kl_per_dimension", "sigma_histogram.edges", "sigma_histogram.counts")
    return Verdict(
        kind, str(content.get("name") or kind), reason, *(_numbers(flat.get(key)) for key in lists)
    )


def _numbers(content: object) -> tuple[float, ...]:
    """The numbers of a list; empty if it is anything else."""
    if not isinstance(content, list) or not all(isinstance(n, int | float) for n in content):
        return ()
    return tuple(map(float, content))
