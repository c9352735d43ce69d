"""The benchmark ``unrolling``: differentiating K inner steps, or their solution, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.files import write_csv
from benchmarks.memory.targets import require_comparable
from benchmarks.progress import Progress
from benchmarks.registry import BENCHMARKS
from benchmarks.unrolling.figure import unrolling_figure
from benchmarks.unrolling.measure import Outcome, Problem, Variant, backends, outcome_of
from benchmarks.unrolling.problems import decoder_problem, softmax_problem
from benchmarks.unrolling.tables import outcome_table
from savi.errors import InputError, require_at_least
from savi.report.figures.style import save

SOFTMAX, VAE = "Softmax problem", "VAE's inner problem"


@BENCHMARKS.register("unrolling")
def run_unrolling(config: Mapping[str, Any], folder: Path) -> list[Table]:
    """Bytes, seconds and gradient error of an outer step against its number of inner steps.

    Writes ``unrolling.csv``, a line for each problem, backend and K, and ``unrolling.png``.

    Args:
        config: see :func:`softmax_problem` and :func:`decoder_problem`; the numbers K as
            ``steps``; ``relative_lr`` and ``momentum`` of the descent (see
            :func:`benchmarks.cost.stable_descent`); ``repetitions`` of each timing.
        folder: where the files go.

    Returns:
        A table for each problem.

    Raises:
        InputError: for values out of range.
    """
    require_comparable(config["steps"])
    if len(config["steps"]) < 4:
        raise InputError(f"steps is {config['steps']}: give at least four, such as [1,3,10,30]")
    require_at_least("repetitions", config["repetitions"], 1)
    if not 0 < config["relative_lr"] < float("inf"):
        raise InputError(f"relative_lr is {config['relative_lr']}: set it above 0")
    problems: dict[str, Problem] = {
        SOFTMAX: softmax_problem(config),
        VAE: decoder_problem(config),
    }
    variants = len(problems) * len(config["steps"]) * len(backends())
    outcomes: dict[str, Outcome] = {}
    with Progress((2 + config["repetitions"]) * variants) as progress:
        for name, problem in problems.items():

            def advance(variant: Variant) -> None:
                progress.advance(f"{variant.backend}, K = {variant.K}")

            outcomes[name] = outcome_of(problem, config, advance)
            progress.say(name)
    write_csv(folder / "unrolling.csv", _rows(outcomes))
    save(unrolling_figure(outcomes), folder / "unrolling.png")
    rows, items = problems[SOFTMAX].start.shape
    examples, scalars = problems[VAE].start.shape
    return [
        outcome_table(
            f"{SOFTMAX}: {rows} rows of {items + 1} items",
            "in closed form, (diag(x) − xxᵀ) w",
            outcomes[SOFTMAX],
        ),
        outcome_table(
            f"{VAE}: {examples} examples of {scalars} variational parameters",
            "the implicit gradient at the exact solution",
            outcomes[VAE],
        ),
    ]


def _rows(outcomes: Mapping[str, Outcome]) -> list[dict[str, Any]]:
    return [
        {
            "problem": problem,
            "backend": name,
            "K": usage.steps,
            "saved": usage.saved,
            "peak": usage.peak,
            "seconds": usage.seconds,
            "error": cost.error,
        }
        for problem, outcome in outcomes.items()
        for name, usages in outcome.usages().items()
        for usage, cost in zip(usages, outcome.of(name), strict=True)
    ]
