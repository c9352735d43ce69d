"""One job of a sweep: skipped if it is finished, else begun or continued in its own folder."""

from __future__ import annotations

import contextlib
import io
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from savi.experiments.earlier import meant_by_absence, overrides_of
from savi.experiments.resume import Progress, progress
from savi.report.table import described, duration
from savi.runs.folder import claimed, finished_metrics, is_claimed
from savi.runs.record import Interrupted, Origin, Record, reason_of, recorded
from savi.runs.stop import STOP
from savi.runs.whole import writing
from savi.sweeps.position import position

#: The file of a job's folder that its output goes to, since several jobs may run side by side.
LOG = "log.txt"

Work = Callable[[Path, Origin, Progress | None, Record], Mapping[str, float]]


class JobFailed(Exception):
    """A job of a sweep failed, and has said why."""


class _Log(io.TextIOWrapper):
    """Text at the end of a file; on a full disk it says which one."""

    def __init__(self, path: Path) -> None:
        with writing(path):
            super().__init__(path.open("ab", buffering=0), encoding="utf-8", write_through=True)
        self._path = path

    def write(self, text: str) -> int:
        """Write it through to the disk."""
        with writing(self._path):
            return super().write(text)


def run_job(
    folder: Path, origin: Origin, config: Mapping[str, Any], work: Work
) -> Mapping[str, float]:
    """Do one job, unless an earlier start of the sweep has finished it.

    The terminal gets a line when it starts and a line when it ends; whatever the job prints goes
    to ``log.txt``. Its ``work`` trains in a folder from where an earlier start of the sweep has
    left it, and returns the final figures.

    Returns:
        The contents of its ``metrics.json``; nothing of a job that another process, started with
        the same sweep, is at work on.

    Raises:
        JobFailed: if the job failed, which its record explains, or if the folder holds a job of
            another config.
        Interrupted: after Ctrl-C.
    """
    try:
        before = overrides_of(folder) or ()
        added = [word for word in shlex.split(origin.command)[1:] if word not in before]
        earlier = finished_metrics(folder, config, meant_by_absence(config, added))
        if earlier is not None:
            _tell(folder, "finished before, skipped")
            return earlier
        if is_claimed(folder):
            _tell(folder, "another process is at work on it, skipped")
            return {}
        # Some launchers start jobs in processes of their own.
        with STOP.handled(), STOP.heard(), claimed(folder, again=True):
            done = progress(config, folder, job=True)
            with recorded(folder, origin, config) as record:
                _tell(folder, "started" if done is None else "taken up again")
                with (
                    _Log(folder / LOG) as log,
                    contextlib.redirect_stdout(log),
                    contextlib.redirect_stderr(log),
                ):
                    metrics = work(folder, origin, done, record)
    except Interrupted:
        _tell(folder, "interrupted")
        raise
    except Exception as error:
        _tell(folder, f"failed: {reason_of(error)}")
        raise JobFailed(reason_of(error)) from error
    _tell(folder, "finished", _figure(config["optimized_metric"], metrics))
    return metrics


def _figure(name: str, metrics: Mapping[str, float]) -> str:
    return f"{name} {described(name).format(metrics[name])}" if name in metrics else ""


def _tell(folder: Path, what: str, figure: str = "") -> None:
    """A line on a job: which of how many it is, its figure, and the time left to the sweep."""
    place = position(folder)
    number, left = ("", None) if place is None else (f"{place} ", place.left)
    remaining = f"{duration(left)} left" if left else ""
    words = ", ".join(filter(None, (what, figure, remaining)))
    print(f"{number}{folder.name}: {words}", flush=True)
