"""``trainer.replicas``: several runs in one process, at little more than the price of one."""

from __future__ import annotations

import ctypes
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from savi.data.batches import Batch
from savi.errors import InputError
from savi.experiments.loggers import quieten_libraries
from savi.experiments.run import warn_of_data
from savi.implicit.reporter import collected
from savi.inference.semi_amortized import Inference
from savi.replicas.configs import plans
from savi.replicas.ensemble import Ensemble, joined
from savi.replicas.run import ReplicaRun
from savi.runs.record import Interrupted, Origin
from savi.training.callbacks import CostMonitor, print_findings
from savi.training.divergence import factorised, require_finite
from savi.training.solve_totals import in_words


def train(
    config: dict[str, Any], folder: Path, origin: Origin | None = None
) -> list[dict[str, float]]:
    """Train ``trainer.replicas`` runs together, and evaluate each as a separate run is.

    Every run leaves in ``folder/seed-0``, … (with ``trainer.vary``, ``folder/inner.rho-0.1``, …)
    what the separate run would leave there, with the same figures to rounding. Exceptions:
    ``cost/step_seconds`` is the time of a joint step over the number of runs, and checkpoints hold
    no state of the optimiser. A run that diverges is recorded as failed, and the others go on.

    Args:
        config: a whole run's config as plain values.
        folder: where the run folders lie.
        origin: how the runs were started.

    Returns:
        The contents of each ``metrics.json``, in order; empty for a run that has failed.

    Raises:
        InputError: before any work is done, for whatever is wrong with config, data or folders,
            and for what replicas cannot do.
        Interrupted: after Ctrl-C, when everything so far has been saved.
        FloatingPointError: if every run has diverged.
    """
    quieten_libraries()
    training = prepare(config, folder, origin or Origin())
    cost = training.cost
    with opened(training.runs):
        print(training.headline(), flush=True)
        first = training.runs[0]
        warn_of_data(first.data, first.module)
        try:
            with factorised(first.data, lambda: training.epoch):
                training.fit()
        except KeyboardInterrupt:
            for run in training.active:
                run.keep_what_there_is(training.epoch, training.ensemble.taken, cost.metrics())
            raise Interrupted(folder) from None
        return [_conclude(run, cost.metrics()) for run in training.runs]


class JointTraining:
    """Epochs of training and validation, in the order and with the numbers of separate runs.

    ``config`` is the ``trainer`` group, and ``examples`` are those in each run's training split.

    Raises:
        InputError: if the batches of the runs cannot be stacked.
    """

    def __init__(self, runs: Sequence[ReplicaRun], config: Mapping[str, Any]) -> None:
        keep_freed_memory()
        self.runs, self.config = list(runs), config
        self._train_loaders = [_with_source(run.data.train_dataloader(), run) for run in runs]
        self._val_loaders = [_with_source(run.data.val_dataloader(), run) for run in runs]
        self.examples = _examples(runs, self._train_loaders, self._val_loaders)
        whole, limit = len(self._train_loaders[0]), config["limit_train_batches"]
        self._log_every = min(config["log_every_n_steps"], whole)
        self.ensemble = Ensemble(
            [run.module for run in runs],
            [run.source for run in runs],
            steps=config["max_epochs"] * (whole if limit is None else min(limit, whole)),
            max_norm=config["gradient_clip_val"],
        )
        for run in runs:
            if run.module.warm_starts is not None:
                run.module.warm_starts.begin(self.examples)
        self.epoch, self.cost = 0, CostMonitor(runs=len(runs))

    @property
    def active(self) -> list[ReplicaRun]:
        """The runs that have not failed."""
        return [run for run in self.runs if run.error is None]

    def fit(self) -> None:
        """Train to the last epoch, or until no run is left."""
        for epoch in range(self.config["max_epochs"]):
            self.epoch = epoch
            with collected() as tally:
                self._train()
            print_findings(tally, epoch)
            if (epoch + 1) % self.config["check_val_every_n_epoch"] == 0:
                self._validate()
            self._drop_the_diverged()
            if not self.active:
                return

    def _train(self) -> None:
        self.ensemble.train()
        for loader in self._train_loaders:
            loader.sampler.set_epoch(self.epoch)  # type: ignore[attr-defined]
        for batch in _together(self._train_loaders, self.config["limit_train_batches"]):
            self.cost.start(self.ensemble)
            logging = (self.ensemble.taken + 1) % self._log_every == 0
            step = self.ensemble.gradients(batch, measured=logging)
            self._count_solves(step.inference)
            if logging:
                self._log(self.ensemble.training_metrics(step), self.ensemble.taken)
            self.ensemble.update(step)
            self.cost.stop(self.ensemble, len(batch.x))

    def _count_solves(self, inference: Inference) -> None:
        """Tell every run how its own solves of a step went."""
        if inference.solution is not None:
            rows = self.ensemble.rows(inference.value)
            for run, own in zip(self.runs, rows, strict=True):
                run.module.solves.add(inference.solution, own)

    def _validate(self) -> None:
        self.ensemble.eval()
        sums: list[Counter[str]] = [Counter() for _ in self.runs]
        examples = 0
        limit = self.config["limit_val_batches"]
        for stream, batch in enumerate(_together(self._val_loaders, limit)):
            every = self.ensemble.evaluation_metrics(batch, stream)
            for total, figures in zip(sums, every, strict=True):
                total.update({name: len(batch.x) * value for name, value in figures.items()})
            examples += len(batch.x)
        means = [{name: value / examples for name, value in total.items()} for total in sums]
        self._log(means, self.ensemble.taken - 1)
        for run in self.active:
            run.save(self.epoch, self.ensemble.taken)

    def _log(self, figures: Sequence[Mapping[str, Any]], step: int) -> None:
        for run, own in zip(self.runs, figures, strict=True):
            run.log({name: float(value) for name, value in own.items()}, self.epoch, step)

    def _drop_the_diverged(self) -> None:
        """Record those whose weights are no longer numbers, and print the bounds of the others.

        What a diverged run computes hurts no other.
        """
        for run in self.active:
            try:
                require_finite(run.module, self.epoch, run.data)
            except FloatingPointError as error:
                run.close(error)
        bounds = "  ".join(
            f"{run.logged.get('val/elbo', float('nan')):.2f}" if run.error is None else "failed"
            for run in self.runs
        )
        print(f"epoch {self.epoch + 1}/{self.config['max_epochs']}  val/elbo {bounds}", flush=True)

    def headline(self) -> str:
        """What is about to be trained, in a line."""
        first, names = self.runs[0], ", ".join(run.folder.name for run in self.runs)
        return (
            f"{len(self.runs)} replicas of {first.config['experiment'] or 'savi'} on "
            f"{first.data.name}, {self.examples:,} training examples each: {names}"
        )


def prepare(config: dict[str, Any], folder: Path, origin: Origin) -> JointTraining:
    """A joint training with everything built, and nothing done or written yet.

    Raises:
        InputError: for whatever is wrong with config or data, and for what replicas cannot do.
    """
    runs = [ReplicaRun(plan) for plan in plans(config, folder, origin)]
    return JointTraining(runs, config["trainer"])


@contextmanager
def opened(runs: Sequence[ReplicaRun]) -> Iterator[None]:
    """Hold the folders, records and logs of the runs; whatever ends this ends all that go on.

    Raises:
        InputError: if a folder holds a run, before anything is written.
        Exception: the first run's error, if all have failed.
    """
    try:
        for run in runs:
            run.claim()
        for run in runs:
            run.open()
        yield
    except BaseException as error:
        for run in runs:
            run.close(error)
        raise
    for run in runs:
        run.close()
    errors = [run.error for run in runs if run.error is not None]
    if len(errors) == len(runs):
        raise errors[0]


def _conclude(run: ReplicaRun, cost: dict[str, float]) -> dict[str, float]:
    """The final figures of a run; one that fails here fails alone."""
    if run.error is None:
        print(f"{run.folder.name}: ", end="")
        try:
            metrics = run.conclude(cost)
            if line := in_words(metrics):
                print(f"{run.folder.name}: {line}", flush=True)
            return metrics
        except Exception as error:
            run.close(error)
    return {}


def _examples(runs: Sequence[ReplicaRun], *loaders: Sequence[DataLoader[Batch]]) -> int:
    sizes: set[Any] = {
        (run.data.shape, *(len(loader.dataset) for loader in pair))
        for run, *pair in zip(runs, *loaders, strict=True)
    }
    if len(sizes) > 1:
        raise InputError(
            "trainer.replicas with data whose splits differ in size between the seeds (equal "
            "examples share a split): set data.limit, or trainer.replicas=1"
        )
    return sizes.pop()[1]


def _with_source(loader: DataLoader[Batch], run: ReplicaRun) -> DataLoader[Batch]:
    """A pass over a loader draws a number, which must come from the run's own source."""
    loader.generator = run.source
    return loader


def _together(loaders: Sequence[DataLoader[Batch]], limit: int | None) -> Iterator[Batch]:
    return map(joined, islice(zip(*loaders, strict=True), limit))


#: Options of ``mallopt`` in glibc, and the largest threshold that it takes: of a joint step's
#: tensors, most are smaller.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _MMAP_THRESHOLD = -1, -3, 32 * 2**20


@cache
def keep_freed_memory() -> None:
    """Have the C library keep what is freed, instead of returning it to the system.

    The tensors of a joint step are megabytes large. By default glibc hands such blocks back when
    they are freed, and the system clears every page anew at the next operation: a third of the
    time of a step. Other C libraries are left as they are.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
