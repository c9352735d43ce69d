"""Where a job stands in its sweep, and how long the rest will take."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from savi.runs.mappings import Unreadable, read_mapping
from savi.runs.record import FINISHED, RECORD, read_record
from savi.sweeps.plan import PLAN


@dataclass(frozen=True)
class Position:
    """The number of a job among all of its sweep, and the time until the last one is done.

    The time is unknown (None) before this start of the sweep has seen a job through.
    """

    number: int
    jobs: int
    left: timedelta | None

    def __str__(self) -> str:
        return f"{self.number:{len(str(self.jobs))}}/{self.jobs}"


def position(folder: Path) -> Position | None:
    """That of the job in a folder, whose sweep has written its plan; None if there is no plan.

    Jobs may run side by side, in processes that know nothing of each other: what they have done
    is read from their folders.
    """
    sweep = folder.parent
    try:
        plan = read_mapping(sweep / PLAN)
        begun = datetime.fromtimestamp((sweep / PLAN).stat().st_mtime, UTC)
    except (OSError, Unreadable):
        return None
    records = {path.parent.name: read_record(path.parent) for path in sweep.glob(f"*/{RECORD}")}
    order = [job["folder"] for job in plan.get("jobs") or ()]
    if not order:
        # The sweeper chooses as it goes.
        order = sorted(records, key=lambda name: (str(records[name].get("started")), name))
    if folder.name not in order:
        return None
    jobs = max(len(order), plan.get("trials") or 0)
    # Of one format, in one zone: they compare as they stand.
    since = begun.isoformat(timespec="seconds")
    done = {name for name, record in records.items() if str(record.get("ended") or "") >= since}
    over = done | {name for name, record in records.items() if record.get("state") == FINISHED}
    each = (datetime.now(UTC) - begun) / len(done) if done else None
    return Position(order.index(folder.name) + 1, jobs, each and each * (jobs - len(over)))
