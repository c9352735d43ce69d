"""Whether anything grows: memory and live tensors over the steps of a run, and over many jobs."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import fmean, linear_regression, median
from typing import Any

import torch

from soaks import Tally, soak
from soaks.patched import SMALL, train

#: What each gradient backend needs besides.
BACKENDS: dict[str, tuple[str, ...]] = {
    "unrolled": (),
    "checkpointed": (),
    "reversible": (),
    "finite_difference": (),
    "truncated": ("gradient.steps=1",),
    "one_step": (),
    "ift": ("inner=proximal",),
    "stop": (),
}

#: A run whose steps take milliseconds.
RUN = (
    *SMALL, "experiment=vae_svi", "inner.max_steps=2", "inner.optimizer=momentum",
    "inner.lr=0.005", "trainer.log_every_n_steps=10",
)  # fmt: skip

#: Steps in an epoch of it.
EPOCH = 80

#: So much may a process grow, in MB, tensors and other objects: by chance in a run, as its heap is
#: cut up; and with every job, whose config Hydra keeps to the end: 1,522 objects for 295 nodes.
OF_A_RUN, OF_A_JOB = (3.0, 0.0, 50.0), (0.25, 0.0, 1_700.0)

STEPS, JOBS, SAMPLES = 5_000, 50, 20

#: One line of measurements: steps or jobs so far, MB, tensors, objects.
Sample = tuple[int, float, int, int]


@soak(
    "growth",
    "no more memory or tensors after 5,000 steps of any backend, nor after 50 jobs in a process",
    len(BACKENDS) + 1,
)
def growth(
    trials: int,
    seed: int,
    folder: Path,
    steps: int = STEPS,
    jobs: int = JOBS,
    epoch: int = EPOCH,
    leak: int = 0,
) -> Tally:
    """Train with each backend, and run a sweep; ``leak`` tensors are kept at every step."""
    tally = Tally()
    for name, overrides in list(BACKENDS.items())[:trials]:
        epochs = -(-steps // epoch)
        words = (
            *RUN, f"gradient={name}", *overrides, f"seed={seed}", f"trainer.max_epochs={epochs}",
            f"trainer.limit_train_batches={epoch}", f"hydra.run.dir={folder / name}",
        )  # fmt: skip
        every = max(1, steps // SAMPLES)
        samples = measured(folder / f"{name}.json", words, every, leak)
        tally.add(*(f"{name}: {fault}" for fault in grown(samples, steps, OF_A_RUN)))
    if trials > len(BACKENDS):
        words = (
            "-m", *RUN, f"seed=range({jobs})", "trainer.max_epochs=1",
            "trainer.limit_train_batches=20", f"hydra.sweep.dir={folder / 'sweep'}",
        )  # fmt: skip
        samples = measured(folder / "sweep.json", words, 0, leak)
        most = tuple(jobs * bound for bound in OF_A_JOB)
        tally.add(*(f"jobs: {fault}" for fault in grown(samples, jobs, most)))
    return tally


def grown(samples: Sequence[Sample], count: int, most: Sequence[float]) -> list[str]:
    """What has grown by more than the most that is allowed, in words.

    The first quarter of the samples is a warm-up.
    """
    settled = samples[len(samples) // 4 :]
    if len(settled) < 2:
        return [f"only {len(samples)} measurements were made"]
    numbers = [float(sample[0]) for sample in settled]
    slope, _ = linear_regression(numbers, [sample[1] for sample in settled])
    half = len(settled) // 2
    found = {"MB of memory": slope * count}
    for name, place in (("tensors", 2), ("objects", 3)):
        early, late = settled[:half], settled[-half:]
        change = median(sample[place] for sample in late) - median(s[place] for s in early)
        found[name] = change * count / (fmean(numbers[-half:]) - fmean(numbers[:half]))
    return [
        f"{change:,.1f} more {name} over {count:,}"
        for (name, change), bound in zip(found.items(), most, strict=True)
        if change > bound
    ]


def measured(file: Path, words: Sequence[str], every: int, leak: int) -> list[Sample]:
    """What a ``savi-train`` in a process of its own measures of itself.

    After every so many steps; with 0, after every job.
    """
    code = train(partial(_measure, file, every, leak), words, file.with_suffix(".log"))
    if code != 0 or not file.is_file():
        return []
    return [tuple(sample) for sample in json.loads(file.read_text(encoding="utf-8"))]


def _measure(file: Path, every: int, leak: int) -> None:
    """Have the program of this process measure itself."""
    from savi.sweeps import job as jobs
    from savi.training import SemiAmortizedVAE

    samples: list[Sample] = []
    kept: list[torch.Tensor] = []
    step, job, taken = SemiAmortizedVAE.training_step, jobs.run_job, 0

    def sample(number: int) -> None:
        samples.append(_sample(number))
        file.write_text(json.dumps(samples), encoding="utf-8")

    def training_step(module: SemiAmortizedVAE, *args: Any) -> torch.Tensor:
        nonlocal taken
        taken += 1
        kept.extend(torch.zeros(100) for _ in range(leak))
        if every and taken % every == 0:
            sample(taken)
        return step(module, *args)

    def run_job(*args: Any) -> Any:
        metrics = job(*args)
        sample(len(samples) + 1)
        return metrics

    SemiAmortizedVAE.training_step = training_step  # type: ignore[method-assign]
    jobs.run_job = run_job


def _sample(number: int) -> Sample:
    gc.collect()
    objects = gc.get_objects()
    # A class may answer isinstance by code of its own.
    tensors = sum(issubclass(type(one), torch.Tensor) for one in objects)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return number, pages * os.sysconf("SC_PAGE_SIZE") / 1e6, tensors, len(objects)
