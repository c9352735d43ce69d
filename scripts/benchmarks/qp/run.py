"""The benchmark ``qp``: the seconds of a batch of quadratic programs, forward and backward."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from benchmarks.files import write_csv
from benchmarks.progress import Progress
from benchmarks.qp.problems import random_programs
from benchmarks.qp.systems import OURS, PEER, solvers
from benchmarks.quiet import quiet
from benchmarks.registry import BENCHMARKS
from benchmarks.step.timing import Timing, interleaved
from benchmarks.table import benchmark_table
from savi.errors import InputError, require_at_least


@dataclass(frozen=True)
class Measured:
    """One size of programs.

    Attributes:
        variables: n, and the number of inequalities.
        equalities: m.
        timings: by solver.
        steps: the mean and the largest number of steps here.
        difference: of the values and of the gradients, from those of qpth; None without it.
    """

    variables: int
    equalities: int
    timings: dict[str, Timing]
    steps: tuple[float, int]
    difference: tuple[float, float] | None


@BENCHMARKS.register("qp")
def run_qp(config: Mapping[str, Any], folder: Path) -> list[Table]:
    """Time forward and backward of a batch here and in qpth; interleaved, and medians.

    Writes ``qp.csv``, a line for each size, solver and repetition.

    Args:
        config: ``batch``; ``sizes``, the numbers of variables; ``tolerance`` of both solvers;
            ``repetitions``; ``seed``.
        folder: where the file goes.

    Returns:
        The times, their ratio, the differences and the steps.

    Raises:
        InputError: for values out of range.
    """
    _check(config)
    sizes = [(n, m) for n in config["sizes"] for m in (0, n // 2)]
    systems = solvers(config["tolerance"])
    measured = []
    with Progress((1 + config["repetitions"]) * len(sizes) * len(systems)) as progress, quiet():
        for n, m in sizes:
            programs = random_programs(config["batch"], n, m, config["seed"])
            answers = {name: solve(programs) for name, solve in systems.items()}
            calls = {name: partial(solve, programs) for name, solve in systems.items()}
            timings = interleaved(calls, config["repetitions"], progress.advance)
            ours, peer = answers[OURS], answers.get(PEER)
            assert ours.steps is not None
            steps = float(ours.steps.double().mean()), int(ours.steps.max())
            difference = None if peer is None else ours.difference(peer)
            measured.append(Measured(n, m, timings, steps, difference))
        progress.say(f"batches of {config['batch']}, threads: {torch.get_num_threads()}")
    write_csv(folder / "qp.csv", _rows(measured))
    return [_table(measured, config)]


def _check(config: Mapping[str, Any]) -> None:
    sizes = config["sizes"]
    if not sizes or sizes[0] < 2 or sizes != sorted(set(sizes)):
        raise InputError(f"sizes is {sizes}: give rising numbers from 2 on, such as [10,50]")
    for key in ("batch", "repetitions"):
        require_at_least(key, config[key], 1)


def _table(measured: list[Measured], config: Mapping[str, Any]) -> Table:
    table = benchmark_table(
        f"Quadratic programs, batches of {config['batch']}, forward and backward",
        f"Residuals of {config['tolerance']:g} in both. Medians; the ratio is the median of those "
        "within a round, below 1 where savi is faster. Differences of solutions and gradients are "
        "the largest in the batch, relative to the largest entry. Without qpth its columns are "
        "empty.",
    )
    for heading in ("Variables", "Inequalities", "Equalities", "savi", "qpth", "Ratio"):
        table.add_column(heading, justify="right")
    for heading in ("Δ value", "Δ gradient", "Steps", "at most"):
        table.add_column(heading, justify="right")
    for row in measured:
        peer, ours = row.timings.get(PEER), row.timings[OURS]
        compared = ["–"] * 4
        if peer is not None and row.difference is not None:
            compared = [
                f"{1e3 * peer.median:.1f} ms",
                f"{ours.over(peer):.2f}",
                f"{row.difference[0]:.0e}",
                f"{row.difference[1]:.0e}",
            ]
        sizes = [str(row.variables), str(row.variables), str(row.equalities)]
        steps = [f"{row.steps[0]:.1f}", str(row.steps[1])]
        table.add_row(*sizes, f"{1e3 * ours.median:.1f} ms", *compared, *steps)
    return table


def _rows(measured: list[Measured]) -> list[dict[str, Any]]:
    return [
        {
            "variables": row.variables,
            "inequalities": row.variables,
            "equalities": row.equalities,
            "solver": name,
            "repetition": repetition,
            "seconds": seconds,
            "mean_steps": row.steps[0] if name == OURS else "",
            "value_difference": row.difference[0] if row.difference else "",
            "gradient_difference": row.difference[1] if row.difference else "",
        }
        for row in measured
        for name, timing in row.timings.items()
        for repetition, seconds in enumerate(timing.seconds)
    ]
