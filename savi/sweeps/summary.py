"""How the jobs of a sweep went, in a few lines."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from savi.report.folders import find_runs
from savi.report.metrics import describe
from savi.report.runs import STATES, Run


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
    if best := _best(found.runs):
        name, run = best
        lines.append(f"best {name} {run.metrics[name]:.6g}: {run.command}")
    lines.append(f"{folder}: {', '.join(states)}; savi-report {shlex.quote(str(folder))} shows all")
    return "\n".join(lines), counts


def _best(runs: Sequence[Run]) -> tuple[str, Run] | None:
    """The run that the sweep's own figure prefers, and the name of that figure."""
    judged = [run for run in runs if run.config.get("optimized_metric") in run.metrics]
    if not judged:
        return None
    name = judged[0].config["optimized_metric"]
    metric = describe(name)
    sign = -1 if metric is not None and metric.better == "lower" else 1
    return name, max(judged, key=lambda run: sign * run.metrics.get(name, -sign * math.inf))
