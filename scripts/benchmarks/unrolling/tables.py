"""The table of a problem."""

from __future__ import annotations

from collections.abc import Callable

from rich.filesize import decimal
from rich.table import Table

from benchmarks.cost.figure import peak_of, seconds_of
from benchmarks.cost.measure import Cost
from benchmarks.table import benchmark_table
from benchmarks.unrolling.measure import Outcome
from benchmarks.unrolling.targets import targets


def outcome_table(title: str, error: str, outcome: Outcome) -> Table:
    """Peak, seconds and gradient error of every backend at each K; the targets below.

    Args:
        title: which problem it is.
        error: with what its gradients are compared.
        outcome: of that problem.
    """
    told = (f"{name}: {target}\n" for name, target in targets(outcome).items())
    table = benchmark_table(
        title,
        "An outer step: the solve, the outer loss and its backward. Peak: the most bytes that "
        "tensors held at once beyond what was there before. Time: a median, in seconds. Error: "
        f"‖g − g*‖ / ‖g*‖, with g* {error}. Peak at the largest K:\n{''.join(told).rstrip()}",
    )
    table.add_column("Backend", no_wrap=True)
    table.add_column("", no_wrap=True)
    for K in outcome.steps:
        table.add_column(f"K = {K:,}", justify="right", no_wrap=True)
    for name in outcome.backends:
        for quantity, cell in QUANTITIES.items():
            shown = name if cell is _peak else ""
            last = quantity == "error"
            table.add_row(shown, quantity, *map(cell, outcome.of(name)), end_section=last)
    return table


def _peak(cost: Cost) -> str:
    return decimal(round(peak_of(cost) or 0.0))


def _seconds(cost: Cost) -> str:
    return f"{seconds_of(cost):.4f}"


def _error(cost: Cost) -> str:
    return f"{cost.error:.1e}"


QUANTITIES: dict[str, Callable[[Cost], str]] = {"peak": _peak, "time": _seconds, "error": _error}
