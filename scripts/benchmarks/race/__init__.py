"""The benchmark ``race``: held-out log-likelihood against CPU seconds of training."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread

import torch
from rich.table import Table

from benchmarks.harness import (
    Config,
    SharedConfig,
    benchmark,
    check_not_empty,
    check_rising,
    write_csv,
)
from benchmarks.images import read_images
from benchmarks.progress import Progress
from benchmarks.race.figure import race_figure
from benchmarks.race.methods import METHODS, check_methods
from benchmarks.race.report import best_row, best_so_far, race_table, target_table, targets
from benchmarks.race.run import Job, Row, finished, marks_of, run_job, write_json
from savi.errors import InputError
from savi.report.figures.style import save
from savi.runs.whole import whole
from savi.settings import setting

#: What a folder may be gone on with: which runs there are, and how many at once.
FREE = {"sizes", "methods", "seeds", "processes"}
SETTINGS = "race.json"


@dataclass
class RaceConfig(SharedConfig):
    """The runs, their data and networks, and how they are judged."""

    dataset: str = "fashion_mnist"
    data_path: str | None = None  # a folder of its files, to do without a download
    batch: int = setting(128, at_least=1)
    latent_dim: int = setting(16, at_least=1)
    hidden: int = setting(500, at_least=1)
    sizes: list[int] = field(default_factory=list)  # numbers of training images
    methods: list[str] | None = None  # by name; None for all
    seeds: int = setting(3, at_least=1)  # of each, counted from ``seed``
    marks: list[float] = field(default_factory=list)  # CPU seconds
    #: the CPU seconds of a run: marks above it are left out. None for 60, above 1,000 images 150,
    #: above 10,000 images 600.
    budget: float | None = setting(None, above=0)
    examples: int = setting(256, at_least=1)  # images that judge, of validation and of test
    samples: int = setting(200, at_least=1)  # of the importance weighting
    refined: int = setting(128, at_least=1)  # of them, on which the gain of refinement is measured
    processes: int = setting(1, at_least=1)  # runs at once, of ``threads`` threads each


@benchmark("race", RaceConfig, resumable=True)
def run_race(config: Config, folder: Path) -> list[Table]:
    """Train every method on every number of images from every seed, and judge it at the marks.

    Each run has a file of its own in ``runs/``. The same command in the same folder goes on with
    those that are missing, from the last mark that each has reached; sizes, methods and seeds may
    be added. Writes ``race.csv``, a line for each run and mark, after every run, and ``race.png``
    in the end. Returns a table for each number of images, and the targets.
    """
    _check(config)
    names, sizes = config["methods"] or list(METHODS), config["sizes"]
    seeds = range(config["seed"], config["seed"] + config["seeds"])
    jobs = [Job(size, name, seed) for size in sizes for seed in seeds for name in names]
    _claim(folder, config)
    missing = [job for job in jobs if finished(job, folder) is None]
    with Progress(len(missing)) as progress:
        for job, rows in _runs(missing, config, folder):
            progress.advance(job.method)
            progress.say(_sentence(job, rows))
            _write_csv(folder / "race.csv", _finished_rows(jobs, folder))
        progress.say(f"threads: {torch.get_num_threads()}")
    rows = _finished_rows(jobs, folder)
    _write_csv(folder / "race.csv", rows)
    save(race_figure(rows), folder / "race.png")
    tables = [race_table(rows, size, config["samples"]) for size in sizes]
    asked = targets(rows)
    return [*tables, target_table(asked)] if asked else tables


def _check(config: Config) -> None:
    check_not_empty(config, "methods")
    check_methods(config["methods"] or list(METHODS))
    check_rising("marks", config["marks"], "rising numbers above 0", least=0, count=1)
    check_rising("sizes", config["sizes"], "rising numbers from 1 on", least=1, count=1)
    if config["marks"][0] <= 0:
        raise InputError(f"marks begins at {config['marks'][0]:g}: begin above 0")
    for size in config["sizes"]:
        marks_of(size, config)
    if config["examples"] > config["sizes"][0]:
        raise InputError(
            f"examples is {config['examples']}, above the {config['sizes'][0]} images of the "
            "smallest size, which every split is cut down to: lower it"
        )
    if config["refined"] > config["examples"]:
        raise InputError(
            f"refined is {config['refined']}, above examples {config['examples']}: lower it"
        )
    images = read_images(config["dataset"], config["data_path"], None, config["seed"])
    for split in ("val", "test"):
        images.held_out(config["examples"], split)
    if (most := images.data.count_trained("train")) < config["sizes"][-1]:
        raise InputError(
            f"sizes ends at {config['sizes'][-1]:,}, and '{config['dataset']}' has {most:,} "
            "training images: lower it"
        )


def _claim(folder: Path, config: Config) -> None:
    """Say what the runs of the folder are like, or see that it says the same."""
    ours = {key: value for key, value in config.items() if key not in FREE}
    file = folder / SETTINGS
    if file.exists():
        theirs = json.loads(file.read_text(encoding="utf-8"))
        for key in ours:
            if theirs.get(key) != ours[key]:
                raise InputError(
                    f"hydra.run.dir '{folder}' holds a race with another {key} "
                    f"({theirs.get(key)}, now {ours[key]}): choose another"
                )
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    write_json(file, ours)


def _runs(jobs: Sequence[Job], config: Config, folder: Path) -> Iterator[tuple[Job, Sequence[Row]]]:
    """Each as soon as it is finished; several at once in processes of their own."""
    if config["processes"] == 1:
        yield from ((job, run_job(job, config, folder)) for job in jobs)
        return
    count, waiting = config["processes"], iter(jobs)
    pool = ProcessPoolExecutor(count, get_context("spawn"), _begin, (config["threads"],))
    with pool:
        running: dict[Future[list[Row]], Job] = {}
        while True:
            # No more than are at work: after Ctrl-C none is begun.
            for job in islice(waiting, count - len(running)):
                running[pool.submit(run_job, job, dict(config), folder)] = job
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()


def _finished_rows(jobs: Sequence[Job], folder: Path) -> list[Row]:
    return [row for job in jobs for row in finished(job, folder) or ()]


def _begin(threads: int | None) -> None:
    """In a worker, which ends with the process that began it, however that has ended."""
    if threads is not None:
        torch.set_num_threads(threads)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := parent_process():
        parent.join()
        os._exit(1)


def _sentence(job: Job, rows: Sequence[Row]) -> str:
    what = f"{job.size:,} images, {job.method}, seed {job.seed}"
    end = f"{rows[-1].steps:,} steps" + " and diverged" * rows[-1].diverged
    if (best := best_row(rows)) is None:
        return f"{what}: {end}"
    return f"{what}: {end}, best at {best.mark:g} s, test {best.test:.1f}"


def _write_csv(path: Path, rows: Sequence[Row]) -> None:
    """The verdicts, and the test value of the best model so far."""
    best = {job: best_so_far(r for r in rows if r.run == job) for job in {r.run for r in rows}}
    lines = [row._asdict() | {"best_so_far": best[row.run][row.mark]} for row in rows]
    with whole(path) as part:
        write_csv(part, lines)
