"""The table of runs: which finished, and what became of the others."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from savi.report.folders import Found
from savi.report.html.words import duration, figure, moment
from savi.report.runs import STATES, Run
from savi.report.settings import Comparison, setting_label

ELBO = "test/elbo"


def counts(found: Found) -> dict[str, int]:
    """How many runs are in each state that occurs, the finished ones first."""
    states = Counter(run.state for run in found.runs)
    states["missing"] += found.unstarted
    return {state: states[state] for state in reversed(STATES) if states[state]}


def status_rows(found: Found, comparison: Comparison) -> list[dict[str, Any]]:
    """A row for every run; those that ask for attention first."""
    rows = []
    for run in sorted(found.runs, key=lambda run: STATES.index(run.state)):
        number, label = setting_words(run, comparison)
        elbo = run.metrics.get(ELBO)
        rows.append(
            {
                "run": run,
                "setting": label,
                "number": number,
                "seed": seed_words(run),
                "elbo": "" if elbo is None else figure(ELBO, elbo),
                "elbo_value": elbo if elbo is not None and math.isfinite(elbo) else None,
                "started": moment(run.started),
                "took": duration(run.duration),
                "seconds": run.duration.total_seconds() if run.duration else None,
            }
        )
    return rows


def setting_words(run: Run, comparison: Comparison) -> tuple[int | None, str]:
    """Number and label of a run's setting; of one that left nothing, by its overrides."""
    number = comparison.setting_of(run)
    if number is None:
        words = dict(word.split("=", 1) for word in run.overrides if "=" in word)
        known = all(key in words for key in comparison.swept)
        keys = comparison.swept if known else [key for key in words if key != "seed"]
        label = setting_label(words, keys) if words else ""
        labels = [setting.label for setting in comparison.settings]
        return (labels.index(label) if label in labels else None), label
    return number, comparison.settings[number].label


def seed_words(run: Run) -> str:
    """A run's seed by its config, or by its overrides; empty if neither tells."""
    seeds = [word.removeprefix("seed=") for word in run.overrides if word.startswith("seed=")]
    return str(run.config.get("seed", seeds[0] if seeds else ""))
