"""The training loop of R runs: every step of it is a step of each of them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from savi.data.batches import Batch
from savi.errors import InputError
from savi.inference.outer_loss import OuterStep
from savi.replicas.ensemble import Ensemble, rows_of
from savi.replicas.memory import keep_freed_memory
from savi.replicas.run import ReplicaRun
from savi.training.callbacks import CostMonitor, peak_memory_mb, require_finite
from savi.training.step_metrics import evaluation_metrics, gradient_norms, training_metrics

Metrics = dict[str, float]


class JointTraining:
    """Epochs of training and validation, in the order and with the numbers of separate runs.

    Args:
        runs: the runs.
        config: the ``trainer`` group.

    Attributes:
        examples: in the training split of each run.
        batches: in an epoch.

    Raises:
        InputError: if the batches of the runs cannot be stacked.
    """

    def __init__(self, runs: Sequence[ReplicaRun], config: Mapping[str, Any]) -> None:
        keep_freed_memory()
        self.runs, self.config = list(runs), config
        self._loaders = [_with_source(run.data.train_dataloader(), run.source) for run in runs]
        self._val_loaders = [_with_source(run.data.val_dataloader(), run.source) for run in runs]
        self.examples = _examples(runs, self._loaders, self._val_loaders)
        whole, limit = len(self._loaders[0]), config["limit_train_batches"]
        self.batches = whole if limit is None else min(limit, whole)
        self._log_every = min(config["log_every_n_steps"], whole)
        self.ensemble = Ensemble(
            [run.module for run in runs],
            [run.source for run in runs],
            steps=config["max_epochs"] * self.batches,
            max_norm=config["gradient_clip_val"],
        )
        for run in runs:
            if run.module.warm_starts is not None:
                run.module.warm_starts.begin(self.examples)
        self.epoch = 0
        self._cost = CostMonitor()

    @property
    def active(self) -> list[ReplicaRun]:
        """The runs that have not failed."""
        return [run for run in self.runs if run.error is None]

    def fit(self) -> None:
        """Train to the last epoch, or until no run is left."""
        for epoch in range(self.config["max_epochs"]):
            self.epoch = epoch
            self._train()
            if (self.epoch + 1) % self.config["check_val_every_n_epoch"] == 0:
                self._validate()
            self._drop_the_diverged()
            self._tell()
            if not self.active:
                return

    def cost(self) -> Metrics:
        """The cost of each run: of a step, its share."""
        figures = self._cost.metrics()
        if figures:
            figures["cost/step_seconds"] /= len(self.runs)
        return figures

    def _train(self) -> None:
        self.ensemble.train()
        for loader in self._loaders:
            loader.sampler.set_epoch(self.epoch)  # type: ignore[attr-defined]
        for batches in _together(self._loaders, self.batches):
            self.ensemble.vae.decoder_evaluations = 0
            start = time.perf_counter()
            step = self.ensemble.backward(batches)
            if (self.ensemble.taken + 1) % self._log_every == 0:
                self._log_step(step, len(batches[0].x))
            self.ensemble.update(step)
            self._cost.seconds.append(time.perf_counter() - start)
            self._cost.evaluations += self.ensemble.vae.decoder_evaluations
            self._cost.examples += len(step.inference.value)
        self._cost.peak_memory_mb = peak_memory_mb(torch.device("cpu"))

    def _log_step(self, step: OuterStep, size: int) -> None:
        for number, run in enumerate(self.runs):
            rows, module = slice(number * size, (number + 1) * size), run.module
            bound, inference = rows_of(step.bound, rows), rows_of(step.inference, rows)
            metrics: dict[str, Any] = training_metrics(module.vae, bound, inference)
            metrics |= gradient_norms(module.vae, module.inference.encoder)
            if inference.solution is not None and inference.solution.certificate is not None:
                metrics |= inference.solution.certificate.metrics()
            self._log(run, metrics, self.ensemble.taken)

    def _validate(self) -> None:
        self.ensemble.eval()
        limit = self.config["limit_val_batches"]
        sums: list[dict[str, Tensor | float]] = [defaultdict(float) for _ in self.runs]
        examples = 0
        for stream, batches in enumerate(_together(self._val_loaders, limit)):
            size = len(batches[0].x)
            evaluated = self.ensemble.evaluate_batches([batch.x for batch in batches], stream)
            for number, run in enumerate(self.runs):
                rows = slice(number * size, (number + 1) * size)
                inference, bound, initial = evaluated
                figures = evaluation_metrics(
                    "val",
                    run.module.vae,
                    rows_of(inference, rows),
                    rows_of(bound, rows),
                    rows_of(initial, rows),
                )
                for name, value in figures.items():
                    sums[number][name] += size * value
            examples += size
        for run, total in zip(self.runs, sums, strict=True):
            means = {name: value / examples for name, value in total.items()}
            self._log(run, means, self.ensemble.taken - 1)
        for run in self.active:
            run.save(self.epoch, self.ensemble.taken)

    def _log(self, run: ReplicaRun, metrics: Mapping[str, Any], step: int) -> None:
        if run.error is None:
            run.log({name: float(value) for name, value in metrics.items()}, self.epoch, step)

    def _drop_the_diverged(self) -> None:
        """Record those whose weights are no longer numbers; what they compute hurts no other."""
        for run in self.active:
            try:
                require_finite(run.module, self.epoch)
            except FloatingPointError as error:
                run.close(error)

    def _tell(self) -> None:
        bounds = "  ".join(
            f"{run.logged.get('val/elbo', float('nan')):.2f}" if run.error is None else "failed"
            for run in self.runs
        )
        print(f"epoch {self.epoch + 1}/{self.config['max_epochs']}  val/elbo {bounds}", flush=True)


def _examples(runs: Sequence[ReplicaRun], *loaders: Sequence[DataLoader[Batch]]) -> int:
    sizes: set[Any] = {
        (run.data.shape, *(len(loader.dataset) for loader in pair))
        for run, *pair in zip(runs, *loaders, strict=True)
    }
    if len(sizes) > 1:
        raise InputError(
            "trainer.replicas with data whose splits differ in size between the seeds: set "
            "data.limit, or trainer.replicas=1"
        )
    return sizes.pop()[1]


def _with_source(loader: DataLoader[Batch], source: torch.Generator) -> DataLoader[Batch]:
    """A pass over a loader draws a number, which must come from the run's own source."""
    loader.generator = source
    return loader


def _together(
    loaders: Sequence[DataLoader[Batch]], limit: int | None
) -> Iterator[tuple[Batch, ...]]:
    return islice(zip(*loaders, strict=True), limit)
