"""The benchmark ``replicas``: what joint training gains over the runs one after another."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from rich.table import Table

from benchmarks.harness import Config, SharedConfig, Target, benchmark, run_config, table, write_csv
from benchmarks.progress import Progress, quiet
from savi.errors import InputError, require_at_least
from savi.experiments.loggers import build_loggers, quieten_libraries
from savi.experiments.run import Run
from savi.replicas.train import opened, prepare
from savi.runs.record import Origin

#: How many times faster the largest joint training should be.
LEAST = 2.0


@dataclass
class ReplicasConfig(SharedConfig):
    """Which runs are trained together, how many of them, and what their config overrides."""

    experiments: list[str] = field(default_factory=list)
    replicas: list[int] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)


class Row(NamedTuple):
    """R runs of an experiment: the seconds of each alone, added up, and of all together."""

    experiment: str
    replicas: int
    separate_seconds: float
    joint_seconds: float

    @property
    def factor(self) -> float:
        """How many times faster."""
        return self.separate_seconds / self.joint_seconds


@benchmark("replicas", ReplicasConfig)
def run_replicas(config: Config, folder: Path) -> list[Table]:
    """Time whole trainings, from the config to the end of the last epoch, with their validation.

    The final evaluation is left out: it is the same work for every run, however it was trained.
    Writes ``replicas.csv``, a line for each experiment and number of replicas. Returns the seconds
    and the factors.
    """
    if not config["experiments"] or not config["replicas"]:
        raise InputError("experiments or replicas is empty: give names, and numbers such as [2,4]")
    for number in config["replicas"]:
        require_at_least("replicas", number, 2)
    quieten_libraries()
    parts = 1 + max(config["replicas"]) + len(config["replicas"])
    with Progress(parts * len(config["experiments"])) as progress:
        # All separate runs first: a joint training changes how the process keeps its memory.
        alone = {name: _separately(name, config, progress) for name in config["experiments"]}
        rows = [row for name in alone for row in _jointly(name, config, alone[name], progress)]
        progress.say(f"threads: {torch.get_num_threads()}")
    write_csv(folder / "replicas.csv", [row._asdict() | {"factor": row.factor} for row in rows])
    return [_table(rows)]


def _separately(experiment: str, config: Config, progress: Progress) -> list[float]:
    """The seconds of each seed, after a run that warms up."""
    seconds = []
    for number in (0, *range(max(config["replicas"]))):
        run = _run_config(experiment, config, config["seed"] + number)
        seconds.append(_seconds(partial(_alone, run)))
        progress.advance(f"{experiment}: seed {run['seed']} alone")
    return seconds[1:]


def _jointly(experiment: str, config: Config, alone: list[float], progress: Progress) -> list[Row]:
    rows = []
    for number in config["replicas"]:
        together = _run_config(experiment, config, config["seed"], number)
        seconds = _seconds(partial(_together, together))
        rows.append(Row(experiment, number, sum(alone[:number]), seconds))
        progress.advance(f"{experiment}: {number} together")
    return rows


def _run_config(experiment: str, config: Config, seed: int, replicas: int = 1) -> dict[str, Any]:
    chosen = [f"experiment={experiment}", "logger=csv", *config["overrides"], f"seed={seed}"]
    chosen += [f"trainer.replicas={replicas}", "trainer.enable_progress_bar=false"]
    return run_config(chosen)


def _seconds(work: Callable[[Path], None]) -> float:
    """How long it takes, in an empty folder and in silence."""
    with TemporaryDirectory() as folder, Path(os.devnull).open("w") as nowhere:
        start = time.perf_counter()
        with redirect_stdout(nowhere), quiet():
            work(Path(folder))
        return time.perf_counter() - start


def _alone(config: dict[str, Any], folder: Path) -> None:
    run = Run.build(config, folder)
    run.trainer.loggers = build_loggers(config, folder, Origin())
    run.fit()


def _together(config: dict[str, Any], folder: Path) -> None:
    training = prepare(config, folder, Origin())
    with opened(training.runs):
        training.fit()


def _table(rows: list[Row]) -> Table:
    most = max(row.replicas for row in rows)
    cells = []
    for row in rows:
        target = Target(row.factor, "as fast", float("inf"), LEAST)
        factor = target if row.replicas == most else f"{row.factor:.2f} × as fast"
        seconds = (f"{value:.2f} s" for value in (row.separate_seconds, row.joint_seconds))
        cells.append([row.experiment, row.replicas, *seconds, factor])
    return table(
        "Training R seeds in one process",
        "Whole trainings with validation, logs and checkpoints, without the final evaluation.",
        cells,
        left=["Experiment"],
        right=["R", "One after another", "Together"],
        last=["Factor, target"],
    )
