"""Inner optimisers at their best: who solves first, and who still does when γ changes."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial

import torch
from torch import Tensor

from benchmarks.batch import TrainedBatch
from benchmarks.progress import Advance
from benchmarks.timing import Timing, interleaved, synchronise
from savi.errors import InputError
from savi.inner.loop import InnerLoop
from savi.inner.optimizers import OPTIMIZERS, InnerOptimizer
from savi.inner.solution import Solution, Status

#: The share of examples that must be solved.
SHARE = 0.95
Optimizers = Mapping[str, InnerOptimizer]


@dataclass(frozen=True)
class Trial:
    """An optimiser with its options, and how it fares."""

    optimizer: InnerOptimizer  # the optimiser
    lr: float | None  # its step size, if that is one of the options that were tried
    steps: int | None  # K after which :data:`SHARE` of the examples were solved; None if never
    converged: float  # the share of examples that were solved in the end
    stationarity: float  # the quantile :data:`SHARE` of it in the end

    @property
    def name(self) -> str:
        """The optimiser's name in configs."""
        return self.optimizer.name

    @property
    def rank(self) -> tuple[float, float, float]:
        """The better, the smaller: fewest steps, then most examples, then the flattest."""
        steps = math.inf if self.steps is None else self.steps
        flat = self.stationarity if math.isfinite(self.stationarity) else math.inf
        return steps, -self.converged, flat


def solve(optimizer: InnerOptimizer, batch: TrainedBatch, max_steps: int, rtol: float) -> Solution:
    """The bare inner solve, without any gradient of its solution."""
    objective = batch.objective(max_steps)
    optimizer.check(objective)
    return InnerLoop(optimizer, max_steps, rtol).run(objective, batch.start)


def tuned(
    name: str, learning_rates: Sequence[float], batch: TrainedBatch, max_steps: int, rtol: float,
    advance: Advance,
) -> list[Trial] | str:  # fmt: skip
    """A first-order optimiser with each step size, any other with its defaults; the best first.

    Returns:
        The trials, or why the optimiser refuses the problem.
    """
    cls = OPTIMIZERS[name]
    by_lr = is_tuned(name)
    trials = []
    try:
        for lr in learning_rates if by_lr else [None]:
            optimizer = cls() if lr is None else cls(lr=lr)  # type: ignore[call-arg]
            end = solve(optimizer, batch, max_steps, rtol)
            most = float(quantile(end.stationarity, SHARE))
            trials.append(Trial(optimizer, lr, steps_needed(end), converged(end), most))
            advance(name if lr is None else f"{name}, lr {lr:g}")
    except InputError as error:
        return str(error)
    return sorted(trials, key=lambda trial: trial.rank)


def is_tuned(name: str) -> bool:
    """Whether step sizes are tried: for first-order optimisers that have one."""
    cls = OPTIMIZERS[name]
    return cls.first_order and "lr" in {field.name for field in fields(cls)}  # type: ignore[arg-type]


def steps_needed(end: Solution) -> int | None:
    """The K after which :data:`SHARE` of the examples are solved; None if fewer ever are."""
    solved = end.steps[end.status == Status.CONVERGED].sort().values
    needed = math.ceil(SHARE * len(end.steps))
    return int(solved[needed - 1]) if needed <= len(solved) else None


def converged(end: Solution) -> float:
    """The share of examples that are solved."""
    return float((end.status == Status.CONVERGED).double().mean())


def quantile(values: Tensor, q: float) -> Tensor:
    """The smallest value that at least a share q of the values do not exceed; NaN is largest."""
    ordered = torch.nan_to_num(values.double(), nan=math.inf).sort().values
    return ordered[math.ceil(q * len(values)) - 1]


#: Whom all others are compared with.
BASE = "adam"


@dataclass(frozen=True)
class Finish:
    """The solve of a whole batch, ended as soon as enough of its examples are solved."""

    steps: int  # K at the end
    reached: bool  # whether enough are solved there; else K is the most that was allowed
    evaluations: float  # codes decoded for each example, tangents included
    objective: float  # the mean of J at the end
    converged: float  # the share of examples that are solved there
    timing: Timing  # the seconds


def race(
    optimizers: Optimizers, batch: TrainedBatch, *, max_steps: int, rtol: float, repetitions: int,
    advance: Advance,
) -> dict[str, Finish]:  # fmt: skip
    """Run every optimiser until enough examples are solved; the timed runs are interleaved.

    One that never gets so far is timed once, unless it is the one that others are compared with.
    """
    finishes = {}
    for name, optimizer in optimizers.items():
        finishes[name] = _finish(optimizer, batch, max_steps, rtol)
        advance(name)

    def run(name: str) -> None:
        solve(optimizers[name], batch, finishes[name].steps, rtol)
        synchronise(batch.x.device)

    timed = {name: partial(run, name) for name, f in finishes.items() if f.reached or name == BASE}
    timings = interleaved(timed, repetitions, advance)
    return finishes | {name: replace(finishes[name], timing=timings[name]) for name in timed}


def _finish(optimizer: InnerOptimizer, batch: TrainedBatch, max_steps: int, rtol: float) -> Finish:
    """Solve, and once more with no step more than is needed; against the clock, but only once."""
    counter, start = batch.model.decoder_evaluations, time.perf_counter()
    end = solve(optimizer, batch, max_steps, rtol)
    count = steps_needed(end)
    if count is not None:
        counter, start = batch.model.decoder_evaluations, time.perf_counter()
        end = solve(optimizer, batch, count, rtol)
    synchronise(batch.x.device)
    seconds = time.perf_counter() - start
    steps, timing = max_steps if count is None else count, Timing(seconds, [seconds])
    evaluations = (batch.model.decoder_evaluations - counter) / len(batch.x)
    objective, share = float(end.objective.mean()), converged(end)
    return Finish(steps, count is not None, evaluations, objective, share, timing)


def speed_of(finishes: Mapping[str, Finish], name: str) -> float:
    """Seconds of an optimiser over those of Adam; NaN if it never finished.

    An Adam that did not finish within ``max_steps`` would have taken longer still, so that then
    the ratio is one from above.
    """
    if not finishes[name].reached:
        return math.nan
    return finishes[name].timing.over(finishes[BASE].timing)


def fastest(finishes: Mapping[str, Finish]) -> str | None:
    """The optimiser that finishes first; None if none does."""
    reached = [name for name, finish in finishes.items() if finish.reached]
    return min(reached, key=lambda name: finishes[name].timing.median, default=None)


@dataclass(frozen=True)
class Robustness:
    """The same optimiser, with the same options, on the problem with another γ."""

    factor: float  # what γ is multiplied by
    converged: float  # the share of examples that are solved
    steps: int | None  # K after which enough of them are; None if never


def across_gamma(
    trials: Sequence[Trial], batch: TrainedBatch, factors: Sequence[float], *, max_steps: int,
    rtol: float, advance: Advance,
) -> dict[str, list[Robustness]]:  # fmt: skip
    """Every optimiser at every γ, by its name."""
    found: dict[str, list[Robustness]] = {trial.name: [] for trial in trials}
    for factor in factors:
        problem = batch.with_gamma(factor)
        for trial in trials:
            end = solve(trial.optimizer, problem, max_steps, rtol)
            found[trial.name].append(Robustness(factor, converged(end), steps_needed(end)))
            advance(f"{trial.name}, γ × {factor:g}")
    return found
