"""Who solves an inner problem first, and who still does when γ changes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from benchmarks.device import synchronise
from benchmarks.inner.candidates import Trial, converged, solve, steps_needed
from benchmarks.step.timing import Timing, interleaved
from benchmarks.trained import TrainedBatch
from savi.inner.optimizers import InnerOptimizer

#: Whom all others are compared with.
BASE = "adam"


@dataclass(frozen=True)
class Finish:
    """The solve of a whole batch, ended as soon as enough of its examples are solved.

    Attributes:
        steps: K at the end.
        reached: whether enough are solved there; else K is the most that was allowed.
        evaluations: codes decoded for each example, tangents included.
        objective: the mean of J at the end.
        converged: the share of examples that are solved there.
        timing: the seconds.
    """

    steps: int
    reached: bool
    evaluations: float
    objective: float
    converged: float
    timing: Timing


def race(
    optimizers: Mapping[str, InnerOptimizer],
    batch: TrainedBatch,
    *,
    max_steps: int,
    rtol: float,
    repetitions: int,
    advance: Callable[[str], None],
) -> dict[str, Finish]:
    """Run every optimiser until enough examples are solved; the timed runs are interleaved.

    One that never gets so far is timed once, unless it is the one that others are compared with.

    Args:
        optimizers: by label.
        batch: the problem.
        max_steps: the most steps of a solve.
        rtol: the relative stationarity that counts as solved.
        repetitions: how often each is timed.
        advance: told the label of each solve that is done.
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
    return Finish(
        max_steps if count is None else count,
        count is not None,
        (batch.model.decoder_evaluations - counter) / len(batch.x),
        float(end.objective.mean()),
        converged(end),
        Timing(seconds, [seconds]),
    )


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
    """The same optimiser, with the same options, on the problem with another γ.

    Attributes:
        factor: what γ is multiplied by.
        converged: the share of examples that are solved.
        steps: K after which enough of them are; None if never.
    """

    factor: float
    converged: float
    steps: int | None


def across_gamma(
    trials: Sequence[Trial],
    batch: TrainedBatch,
    factors: Sequence[float],
    *,
    max_steps: int,
    rtol: float,
    advance: Callable[[str], None],
) -> dict[str, list[Robustness]]:
    """Every optimiser at every γ, by its name."""
    found: dict[str, list[Robustness]] = {trial.name: [] for trial in trials}
    for factor in factors:
        problem = batch.with_gamma(factor)
        for trial in trials:
            end = solve(trial.optimizer, problem, max_steps, rtol)
            found[trial.name].append(Robustness(factor, converged(end), steps_needed(end)))
            advance(f"{trial.name}, γ × {factor:g}")
    return found
