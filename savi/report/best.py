"""The best of the settings that were tried: by its mean over seeds, not by one lucky run."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from savi.report.metrics import direction
from savi.report.runs import Run
from savi.report.settings import Setting, Summary, compare, summarise
from savi.report.table import described

#: What runs are judged by that were not tuned for the same figure.
ELBO = "test/elbo"

#: The overrides that tell the seeds of a setting apart.
SEEDS = ("seed", "data.seed")


@dataclass(frozen=True)
class Best:
    """The best setting by a metric.

    Attributes:
        metric: its logged name.
        setting: the setting, with its finished runs alone.
        summary: the mean over its seeds, and the interval.
        unfinished: how many of its runs have no finite figure.
    """

    metric: str
    setting: Setting
    summary: Summary
    unfinished: int

    @property
    def command(self) -> str:
        """A command line of the setting, without the seed; empty if no run tells."""
        words = self.setting.runs[0].words
        return shlex.join(word for word in words if word.partition("=")[0] not in SEEDS)

    @property
    def words(self) -> str:
        """Mean and interval, over how many seeds, and how many runs are left out."""
        unit = described(self.metric).unit
        mean, half_width, n = self.summary.mean, self.summary.half_width, self.summary.n
        if half_width is None:
            text = f"{mean:.6g} {unit}".strip() + " with one seed, and so without an interval"
        else:
            spread = f"mean {mean:.6g} ± {half_width:.2g} {unit}".strip()
            text = f"{spread} (95 % t-interval over {n} seeds)"
        if self.unfinished:
            runs = "run is" if self.unfinished == 1 else "runs are"
            text += f"; {self.unfinished} more {runs} without a figure"
        return text


def best_setting(runs: Sequence[Run]) -> Best | None:
    """The setting with the best mean objective over its seeds; the first of equals.

    Settings all of whose runs have a finite figure come before those that have lost some. None
    where no run has finished, and by a metric of which neither end is better. Runs without a
    config are passed over: they may have any setting.
    """
    metric = objective(runs)
    way = direction(metric)
    rated = []
    for setting in compare([run for run in runs if run.config]).settings:
        usable = tuple(run for run in setting.runs if _has(run, metric))
        if usable:
            finished = Setting(setting.label, setting.values, usable)
            summary = summarise(finished.figures(metric))
            rated.append(Best(metric, finished, summary, len(setting.runs) - len(usable)))
    if way is None:
        return None
    sign = -1 if way == "minimize" else 1
    return max(
        rated, key=lambda best: (best.unfinished == 0, sign * best.summary.mean), default=None
    )


def objective(runs: Sequence[Run]) -> str:
    """What the runs were tuned for, if they agree on it; otherwise the test ELBO."""
    named = {run.config.get("optimized_metric") for run in runs if run.config}
    name = named.pop() if len(named) == 1 else None
    return name if isinstance(name, str) else ELBO


def _has(run: Run, metric: str) -> bool:
    return run.state == "finished" and math.isfinite(run.metrics.get(metric, math.nan))
