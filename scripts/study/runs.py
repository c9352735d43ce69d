"""The runs of a study, in processes of their own; one that was cut off is gone on with."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from savi.console import say
from savi.report.runs import Run, read_run
from study.plan import Job, Study, Words

SCRIPTS = Path(__file__).resolve().parents[1]


def run_all(study: Study, jobs: Sequence[Job], folder: Path, processes: int) -> list[Run]:
    """Bring all of them to their end, so many at a time, each on one thread."""
    with ThreadPoolExecutor(processes) as pool:
        return list(pool.map(lambda job: _run(job, study.command(job), folder), jobs))


def read_all(jobs: Sequence[Job], folder: Path) -> dict[int, Run]:
    """Of those that have been started, by their seeds."""
    return {job.seed: _read(job, folder) for job in jobs if job.folder(folder).is_dir()}


def _run(job: Job, words: Words, folder: Path) -> Run:
    place = job.folder(folder)
    if not place.is_dir() or _read(job, folder).state != "finished":
        place.parent.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable, str(SCRIPTS / "train.py"), *words, "trainer.threads=1",
            "resume=auto", f"hydra.run.dir={place}",
        ]  # fmt: skip
        # For imports=[study.networks].
        paths = filter(None, [str(SCRIPTS), os.environ.get("PYTHONPATH")])
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
        with place.with_name(f"{place.name}.log").open("a") as log:
            subprocess.run(command, env=environment, stdout=log, stderr=log, check=False)
    run = _read(job, folder)
    say(f"{run.name}: {run.state}{f', {run.reason}' if run.reason else ''}")
    return run


def _read(job: Job, folder: Path) -> Run:
    return read_run(job.folder(folder), f"{job.block}/{job.method}_{job.seed}")
