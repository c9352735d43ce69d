"""How the jobs of a sweep went, in a few lines."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path

from savi.report.best import best_setting
from savi.report.folders import find_runs
from savi.report.runs import STATES


def summarise(folder: Path) -> tuple[str, Counter[str]]:
    """What a terminal shows when a sweep is over, and the number of its jobs in each state."""
    found = find_runs([folder])
    counts = Counter(run.state for run in found.runs)
    lines = [
        ": ".join(filter(None, [f"{run.name} {run.state}", run.reason]))
        for run in found.runs
        if run.state != "finished"
    ]
    states = [f"{counts[state]} {state}" for state in reversed(STATES) if counts[state]]
    if best := best_setting(found.runs):
        lines.append(f"best {best.metric}: {best.setting.label}, {best.words}: {best.command}")
    lines.append(f"{folder}: {', '.join(states)}; savi-report {shlex.quote(str(folder))} shows all")
    return "\n".join(lines), counts
