"""The benchmark ``order``: the order of every backend's error in the stationarity."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from rich.text import Text

from benchmarks.files import write_csv
from benchmarks.order.figure import error_against_stationarity
from benchmarks.order.measure import ErrorCurve, measure
from benchmarks.order.problem import decoder_problem
from benchmarks.progress import Progress
from benchmarks.registry import BENCHMARKS
from benchmarks.table import benchmark_table
from savi.errors import InputError, require_at_least
from savi.gradients import BACKENDS
from savi.registry import build
from savi.report.figures.style import save

#: What theory says of the error at distance ε of the solution.
EXPECTED = {"stop": "1", "ift": "2"}
MINIMA = {
    "seed": 0, "examples": 1, "latent_dim": 1, "data_dim": 1, "hidden": 1, "depth": 1, "samples": 1,
    "points": 3, "max_steps": 1,
}  # fmt: skip


@BENCHMARKS.register("order")
def run_order(config: Mapping[str, Any], folder: Path) -> list[Table]:
    """Measure errors of the θ-gradient at inexact solutions, and fit their order.

    Writes ``order.csv``, a line for each backend, level and example, and ``order.png``.

    Args:
        config: see :func:`decoder_problem`; ``backends`` by name; the number of ``points`` between
            the ``levels`` of stationarity, and the ``window`` of the fit, both (smallest,
            largest); ``max_steps``.
        folder: where the files go.

    Returns:
        The errors by level, with the slopes in the last lines.

    Raises:
        InputError: for unknown names and values out of range.
    """
    _check(config)
    backends = {name: build(BACKENDS, name, {}) for name in config["backends"]}
    window = (config["window"][0], config["window"][1])
    levels = _levels(config)
    curves = {}
    with Progress(1 + len(backends)) as progress:
        problem = decoder_problem(config)
        progress.advance("exact solutions")
        progress.say(f"{config['examples']} examples and their exact gradients")
        for name, backend in backends.items():
            curves[name] = measure(problem, backend, levels, config["max_steps"])
            progress.advance(name)
            progress.say(name)
    write_csv(
        folder / "order.csv",
        [{"backend": name} | asdict(point) for name in curves for point in curves[name].points],
    )
    save(error_against_stationarity(curves, levels, window), folder / "order.png")
    return [_table(curves, levels, window)]


def _check(config: Mapping[str, Any]) -> None:
    for key, least in MINIMA.items():
        require_at_least(key, config[key], least)
    if not config["gamma"] > 0:
        raise InputError(f"gamma is {config['gamma']}: set it above 0")
    for key in ("levels", "window"):
        ends = config[key]
        if len(ends) != 2 or not 0 < ends[0] < ends[1] <= 1:
            raise InputError(f"{key} is {ends}: give two numbers [SMALLEST, LARGEST] in (0, 1]")
    if not config["backends"]:
        raise InputError("backends is []: name at least one")
    smallest, largest = config["window"]
    if sum(smallest <= level <= largest for level in _levels(config)) < 3:
        raise InputError(
            f"window {config['window']} holds fewer than 3 of the levels, too few to fit a slope: "
            "widen it, or raise points"
        )


def _levels(config: Mapping[str, Any]) -> list[float]:
    """From the largest to the smallest, evenly on a log scale."""
    smallest, largest = (math.log10(end) for end in config["levels"])
    return torch.logspace(largest, smallest, config["points"], dtype=torch.float64).tolist()


def _table(
    curves: Mapping[str, ErrorCurve], levels: Sequence[float], window: tuple[float, float]
) -> Table:
    table = benchmark_table(
        "Relative error of the θ-gradient",
        f"medians over the examples; slopes of log error against log stationarity in "
        f"[{window[0]:.0e}, {window[1]:.0e}]",
    )
    table.add_column("Stationarity")
    for name in curves:
        table.add_column(Text(name), justify="right")
    for level in levels:
        errors = (f"{curve.median_error(level):.1e}" for curve in curves.values())
        table.add_row(f"{level:.1e}", *errors)
    table.add_section()
    table.add_row("slope", *(f"{curve.slope(window):.2f}" for curve in curves.values()))
    table.add_row("in theory", *(EXPECTED.get(name, "") for name in curves))
    return table
