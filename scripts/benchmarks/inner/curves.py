"""How far an inner solve has come, step after step."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

import torch

from benchmarks.batch import TrainedBatch
from benchmarks.inner.solves import SHARE, Optimizers, quantile
from benchmarks.timing import synchronise
from savi.inner.history import Iterate, Recorder
from savi.inner.loop import InnerLoop
from savi.linear.base import norm
from savi.types import Mask


class Moment(NamedTuple):
    """The state of a solve before step K."""

    steps: int  # K
    evaluations: float  # codes decoded so far for each example, tangents included
    seconds: float  # since the start; the median over the repetitions
    objective: float  # the mean of J
    stationarity: float  # ‖∇J(λK)‖ / ‖∇J(λ0)‖, the median over the examples
    most: float  # the same, not exceeded by :data:`SHARE` of them


class Watch(Recorder):
    """Notes at some steps of a run where it is, how late, and after how many decoded codes.

    The clock starts when it is made, so that setting up J counts. Of a run that is repeated the
    repetition alone counts: its iterates are those that are noted.
    """

    def __init__(self, batch: TrainedBatch, steps: Sequence[int]) -> None:
        super().__init__()
        self.batch, self.steps = batch, frozenset(steps)
        self._made = time.perf_counter(), batch.model.decoder_evaluations
        self._setup: tuple[float, int] | None = None

    def begin(self) -> None:
        """Set clock and counter to what setting up J took."""
        super().begin()
        now = time.perf_counter(), self.batch.model.decoder_evaluations
        if self._setup is None:
            self._setup = now[0] - self._made[0], now[1] - self._made[1]
        self._start, self._codes = now[0] - self._setup[0], now[1] - self._setup[1]
        self.evaluations: list[float] = []
        self.seconds: list[float] = []

    def record(self, iterate: Iterate, active: Mask) -> None:
        """Look at the clock and at the counter."""
        if iterate.step not in self.steps:
            return
        synchronise(iterate.y.device)
        self.seconds.append(time.perf_counter() - self._start)
        codes = self.batch.model.decoder_evaluations - self._codes
        self.evaluations.append(codes / len(iterate.y))
        self.iterates.append(iterate)


def curves(
    optimizers: Optimizers, batch: TrainedBatch, steps: Sequence[int], repetitions: int
) -> dict[str, list[Moment]]:
    """Each optimiser's solve without a stopping rule; its runs take turns with the others'."""
    watches: dict[str, list[Watch]] = {name: [] for name in optimizers}
    for _ in range(repetitions):
        for name, optimizer in optimizers.items():
            watch, last = Watch(batch, steps), max(steps)
            loop = InnerLoop(optimizer, last + 1, rtol=0.0)
            loop.run(batch.objective(last), batch.start, recorder=watch)
            watches[name].append(watch)
    return {name: _moments(batch, runs) for name, runs in watches.items()}


def _moments(batch: TrainedBatch, runs: Sequence[Watch]) -> list[Moment]:
    objective = batch.objective()
    start = norm(objective.gradient(batch.start)[1])
    moments = []
    for index, iterate in enumerate(runs[0].iterates):
        value, gradient = objective.gradient(iterate.y)
        slope = norm(gradient)
        stationarity = torch.where(slope == 0, slope, slope / start)
        middle, most = (float(quantile(stationarity, share)) for share in (0.5, SHARE))
        evaluations, seconds = runs[0].evaluations[index], [run.seconds[index] for run in runs]
        reached = float(value.mean()), middle, most
        moments.append(Moment(iterate.step, evaluations, median(seconds), *reached))
    return moments
