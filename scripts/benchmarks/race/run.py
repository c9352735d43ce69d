"""One run of the race: training by the clock, a verdict at every mark, and its file."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.harness import Config
from benchmarks.images import read_images
from benchmarks.progress import quiet
from benchmarks.race.judge import NAN, Judge, Verdict
from benchmarks.race.methods import METHODS
from benchmarks.race.training import Clock, Training
from benchmarks.trained import experiment_module
from savi.errors import InputError
from savi.inference.refinement import WhereScarce
from savi.runs.whole import whole, write_text

#: The CPU seconds that a size has unless ``budget`` says otherwise: up to so many images.
BUDGETS = ((1_000, 60.0), (10_000, 150.0), (float("inf"), 600.0))


class Job(NamedTuple):
    """A run: so many training images, a method, and the seed of its data, weights and noise."""

    size: int
    method: str
    seed: int

    def file(self, folder: Path, suffix: str = "json") -> Path:
        """Where its rows go; what it needs to go on has another suffix."""
        return folder / "runs" / f"N{self.size}_{self.method}_{self.seed}.{suffix}"


class Row(NamedTuple):
    """The verdict at a mark."""

    size: int
    method: str
    seed: int
    mark: float  # the CPU seconds that were to be spent
    seconds: float = NAN  # those that were: up to one step more
    steps: int = 0
    val: float = NAN
    test: float = NAN
    val_effective: float = NAN
    test_effective: float = NAN
    train_gain: float = NAN
    val_gain: float = NAN
    active: float = NAN
    diverged: bool = False

    @property
    def run(self) -> Job:
        """The run that it is of."""
        return Job(self.size, self.method, self.seed)


def marks_of(size: int, config: Config) -> list[float]:
    """The marks within the budget of a size; the last one is where the schedules end.

    Raises:
        InputError: if there is none.
    """
    budget = config["budget"]
    if budget is None:
        budget = next(seconds for most, seconds in BUDGETS if size <= most)
    marks = [mark for mark in config["marks"] if mark <= budget]
    if not marks:
        raise InputError(
            f"marks begins at {config['marks'][0]:g}, above the {budget:g} s for {size:,} images: "
            "lower it, or raise budget"
        )
    return marks


def run_job(job: Job, config: Config, folder: Path, clock: Clock = time.process_time) -> list[Row]:
    """Train and judge, from the last mark that an earlier start has reached; writes its file.

    A run that diverges ends there: the marks that are left get no figures.
    """
    checkpoint, file = job.file(folder, "ckpt"), job.file(folder)
    with torch.random.fork_rng(devices=[]), quiet():
        training, judge = _begin(job, config, clock)
        rows: list[Row] = []
        if checkpoint.exists():
            state = torch.load(checkpoint, weights_only=True)
            _check_method(job, state["method"])
            training.load_state_dict(state["training"])
            rows = [Row(**row) for row in state["rows"]]
        for mark in marks_of(job.size, config)[len(rows) :]:
            lost = bool(rows) and rows[-1].diverged
            verdict = None if lost else _verdict(training, judge, mark)
            figures = Verdict() if verdict is None else verdict
            spent = mark, training.seconds, training.steps
            rows.append(Row(*job, *spent, *figures, diverged=verdict is None))
            record = {"method": _told(job), "rows": [row._asdict() for row in rows]}
            state = {"training": training.state_dict(), **record}
            with whole(checkpoint) as part:
                torch.save(state, part)
    write_json(file, record)
    checkpoint.unlink()
    return rows


def _begin(job: Job, config: Config, clock: Clock) -> tuple[Training, Judge]:
    method = METHODS[job.method]
    images = read_images(
        config["dataset"], config["data_path"], None, job.seed,
        limit=job.size, batch_size=config["batch"],
    )  # fmt: skip
    judge = Judge.of(images, config["examples"], config["samples"], config["refined"])
    widths = [f"model.{key}={config[key]}" for key in ("latent_dim", "hidden")]
    words = [*method.overrides, f"optimizer.lr={method.lr}", *widths]
    module = experiment_module(words, images, job.seed)
    budget = marks_of(job.size, config)[-1]
    optimizer = module.configure_optimizers()
    if isinstance(module.refinement, WhereScarce):
        module.refinement.decide(job.size)
    training = Training(module, optimizer, images, method, budget, clock)
    return training, judge


def _verdict(training: Training, judge: Judge, mark: float) -> Verdict | None:
    """At the mark; None after a divergence."""
    if not training.until(mark):
        return None
    try:
        return judge(training.module)
    except torch.linalg.LinAlgError:
        return None


def finished(job: Job, folder: Path) -> list[Row] | None:
    """The rows of a run that has been finished, or None.

    Raises:
        InputError: if its method was another one then.
    """
    file = job.file(folder)
    if not file.exists():
        return None
    record = json.loads(file.read_text(encoding="utf-8"))
    _check_method(job, record["method"])
    return [Row(**row) for row in record["rows"]]


def _told(job: Job) -> dict[str, Any]:
    method = METHODS[job.method]
    told = method._asdict() | {"overrides": list(method.overrides)}
    if method.finish is None:
        # As races tell it that were begun before there was one.
        del told["finish"]
    else:
        told["finish"] = [list(method.finish.overrides), method.finish.begin]
    return told


def _check_method(job: Job, earlier: Mapping[str, Any]) -> None:
    if earlier != _told(job):
        raise InputError(
            f"hydra.run.dir holds a run of '{job.method}' when that was another method "
            f"({' '.join(earlier['overrides'])}, lr {earlier['lr']:g}, {earlier['schedule']}): "
            "choose another"
        )


def write_json(file: Path, value: object) -> None:
    """Whole or not at all: whoever is cut off leaves the old one."""
    write_text(file, json.dumps(value, indent=1))
