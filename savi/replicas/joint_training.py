"""Epochs of training and validation of several runs at once."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from savi.data.batches import Batch, Batches
from savi.errors import InputError
from savi.implicit.reporter import collected
from savi.inference.semi_amortized import Inference
from savi.replicas.ensemble import Ensemble, joined
from savi.replicas.joint_state import write_joint_state
from savi.replicas.memory import keep_freed_memory
from savi.replicas.run import ReplicaRun
from savi.runs.stop import STOP
from savi.training.bad_steps import StepInputs
from savi.training.callbacks import CostMonitor, print_findings
from savi.training.divergence import require_finite


class JointTraining:
    """Epochs of training and validation, in the order and with the numbers of separate runs.

    ``config`` is the ``trainer`` group, and ``examples`` are those in each run's training split.

    Raises:
        InputError: if the batches of the runs cannot be stacked.
    """

    def __init__(
        self, runs: Sequence[ReplicaRun], whole_config: Mapping[str, Any], folder: Path
    ) -> None:
        keep_freed_memory()
        self.folder, self.whole_config = folder, whole_config
        self.runs, self.config = list(runs), (config := whole_config["trainer"])
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
        self._batch, self._saved = 0, time.monotonic()
        minutes = whole_config["callbacks"]["checkpoint_every_n_minutes"]
        self._seconds = math.inf if minutes is None else 60 * minutes
        self._sources: list[Tensor] | None = None

    @property
    def over(self) -> bool:
        """Whether the last epoch is over, or no run is left."""
        return self.epoch == self.config["max_epochs"] or not self.active

    @property
    def active(self) -> list[ReplicaRun]:
        """The runs that have not failed."""
        return [run for run in self.runs if run.error is None]

    @property
    def at_work(self) -> list[ReplicaRun]:
        """The runs that have neither failed nor finished."""
        return [run for run in self.active if run.is_open]

    def fit(self) -> None:
        """Train to the last epoch, or until no run is left.

        Raises:
            KeyboardInterrupt: after a signal, where the runs can go on.
        """
        while not self.over:
            with collected() as tally:
                self._train()
            print_findings(tally, self.epoch)
            if (self.epoch + 1) % self.config["check_val_every_n_epoch"] == 0:
                self._validate()
            self._drop_the_diverged()
            self.epoch, self._batch = self.epoch + 1, 0
            self._save()
            if STOP.asked:
                raise KeyboardInterrupt

    def _train(self) -> None:
        self.ensemble.train()
        for loader in self._train_loaders:
            loader.sampler.set_epoch(self.epoch)
            loader.sampler.start = self._batch
        limit = self.config["limit_train_batches"]
        left = None if limit is None else limit - self._batch
        batches = _together(self._train_loaders, left)
        self._restore_sources()
        for batch in batches:
            # Before the first batch, nothing has been done since the end of the last epoch.
            if self._batch > 0 and (STOP.asked or time.monotonic() - self._saved >= self._seconds):
                self._save()
            if STOP.asked:
                raise KeyboardInterrupt
            self._batch += 1
            self.cost.start(self.ensemble)
            logging = (self.ensemble.taken + 1) % self._log_every == 0
            self._step(batch, logging)
            self.cost.stop(self.ensemble, len(batch.x))

    def _step(self, batch: Batch, logging: bool) -> None:
        """One step of all runs; those whose loss or gradient is not finite leave it out."""
        noise = [run.source.get_state() for run in self.runs]
        try:
            step = self.ensemble.gradients(batch, measured=logging)
        except torch.linalg.LinAlgError as error:
            every = range(len(self.runs))
            self._leave_out(batch, noise, dict.fromkeys(every, f"a factorisation failed ({error})"))
            self.ensemble.count()
            return
        bad = self.ensemble.not_finite(step)
        self._leave_out(batch, noise, bad)
        self._count_solves(step.inference, bad)
        if logging:
            figures = self.ensemble.training_metrics(step)
            for number, (run, own) in enumerate(zip(self.runs, figures, strict=True)):
                figures[number] = run.module.bad_steps.metrics() | ({} if number in bad else own)
            self._log(figures, self.ensemble.taken)
        self.ensemble.update(batch, step, bad)

    def _leave_out(self, batch: Batch, noise: Sequence[Tensor], bad: Mapping[int, str]) -> None:
        """Count bad steps, by the number of the run; one too many ends its run.

        Args:
            batch: of the joint step.
            noise: the states of the runs' sources before it.
            bad: what is not finite.
        """
        for number, what in bad.items():
            run, rows = self.runs[number], self.ensemble.rows(batch.x)[number]
            if run.error is not None:
                continue
            own, starts = Batch(*(part[rows] for part in batch)), run.module.warm_starts
            start = None if starts is None else starts[own.index]
            inputs = StepInputs(own, start, True, self.ensemble.taken, self.epoch, noise[number])
            name = f"{run.folder.name}: "
            try:
                run.module.bad_steps.add(what, inputs, run.module, run.data, name)
            except FloatingPointError as error:
                run.close(error)

    def _count_solves(self, inference: Inference, bad: Mapping[int, str]) -> None:
        """Tell every run how its own solves of a step went, unless it was a bad one."""
        if inference.solution is not None:
            for number, own in enumerate(self.ensemble.rows(inference.value)):
                if number not in bad:
                    self.runs[number].module.solves.add(inference.solution, own)

    @torch.no_grad()
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

    def _save(self) -> None:
        """Keep the state of the training, between two steps or two epochs."""
        schedule = self.ensemble.schedule
        state = {
            "epoch": self.epoch,
            "batch": self._batch,
            "taken": self.ensemble.taken,
            "optimizer": self.ensemble.optimizer.state_dict(),
            "schedule": None if schedule is None else schedule.state_dict(),
            "cost": self.cost.state_dict(),
            "runs": [run.state_dict() for run in self.runs],
        }
        write_joint_state(self.folder, self.whole_config, state)
        self._saved = time.monotonic()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where an earlier start was."""
        self.epoch, self._batch = state["epoch"], state["batch"]
        self.ensemble.taken = state["taken"]
        self.ensemble.optimizer.load_state_dict(state["optimizer"])
        if self.ensemble.schedule is not None:
            self.ensemble.schedule.load_state_dict(state["schedule"])
        self.cost.load_state_dict(state["cost"])
        for run, own in zip(self.runs, state["runs"], strict=True):
            run.load_state_dict(own)
        if self._batch > 0:
            self._sources = [own["source"] for own in state["runs"]]

    def _restore_sources(self) -> None:
        """In the middle of an epoch the numbers that its beginning draws have been drawn."""
        sources, self._sources = self._sources, None
        for run, state in zip(self.runs, sources or [], strict=False):
            run.source.set_state(state)

    def _drop_the_diverged(self) -> None:
        """Record those whose weights are no longer numbers, and print the bounds of the others.

        What a diverged run computes hurts no other.
        """
        for run in self.active:
            try:
                require_finite(run.module, self.epoch, run.data)
                bad = run.module.bad_steps
                bad.require_most(self.epoch, self._batch, run.module, run.data)
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


def _examples(runs: Sequence[ReplicaRun], *loaders: Sequence[Batches]) -> int:
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


def _with_source(loader: Batches, run: ReplicaRun) -> Batches:
    """A pass over a loader draws a number, which must come from the run's own source."""
    loader.generator = run.source
    return loader


def _together(loaders: Sequence[Batches], limit: int | None) -> Iterator[Batch]:
    return map(joined, islice(zip(*loaders, strict=True), limit))
