"""The tables of the benchmark."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.table import Table

from benchmarks.harness import Config, table
from benchmarks.peers.outcome import Outcome, ours
from benchmarks.peers.targets import rivals

CAPTIONS = {
    "fixed": (
        "Error: of the gradient against that of the exact solution, which K steps do not reach. "
        "Deviation: against the same K steps and the same kind of derivative in double precision."
    ),
    "converged": (
        "Error: of the gradient against that of the exact solution to which descent from the "
        "system's own leads."
    ),
}
TIMES = (
    "Medians; × is the median of the ratios within a round. One process at a time; J is "
    "‖∇J(z)‖ / ‖∇J(z0)‖ at the system's solution, its median and its 95 % quantile."
)


def title(outcome: Outcome, config: Config) -> str:
    """What a problem asks of the systems."""
    if outcome.part == "fixed":
        task = f"{config['steps']} steps of gradient descent"
    else:
        task = f"Solved to {config['rtol']:g} for {config['fraction']:.0%} of the examples"
    return f"{task}, D = {outcome.data_dim:,}"


def result_table(outcomes: Sequence[Outcome], config: Config) -> Table:
    """All systems on one problem, the fastest first; those that failed last."""
    base, part = ours(outcomes, config["tolerance"]), outcomes[0].part
    deviation = ["Deviation"] if part == "fixed" else []
    return table(
        title(outcomes[0], config),
        f"{CAPTIONS[part]} {TIMES}",
        [
            [outcome.system.label, *_cells(outcome, base, config["tolerance"])]
            for outcome in sorted(outcomes, key=_order)
        ],
        left=["System"],
        right=["Seconds", f"× {base.system.label if base else '–'}", "Error", *deviation,
               "J median", "J 95 %"],
        last=[""],
        wrap=["System"],
    )  # fmt: skip


def target_table(problems: Sequence[Sequence[Outcome]], config: Config) -> Table:
    """What was asked of each problem, and whether it was met."""
    rows = [
        [title(outcomes[0], config), rival.group, rival.outcome.system.label, rival.target]
        for outcomes in problems
        for rival in rivals(outcomes, config["tolerance"])
    ]
    return table(
        "The fastest of the other systems, and their times in units of ours",
        f"Only gradients that are off by at most {config['tolerance']:g} count.",
        rows,
        left=[],
        last=["Problem", "Peers", "The fastest", "Its time, target"],
    )


def _order(outcome: Outcome) -> tuple[bool, float]:
    timed = bool(outcome.timing.seconds)
    return not timed, outcome.timing.median if timed else 0.0


def _cells(outcome: Outcome, base: Outcome | None, tolerance: float) -> list[str]:
    found = outcome.judgement
    if found is None or not outcome.timing.seconds:
        blanks = ["–"] * (6 if outcome.part == "fixed" else 5)
        return [*blanks, f"failed: {outcome.timing.refusal}"]
    ratio = outcome.timing.over(base.timing) if base else float("nan")
    errors = [found.error, *([] if found.deviation is None else [found.deviation])]
    wrong = "" if outcome.is_right(tolerance) else "does not count"
    return [
        f"{outcome.timing.median:.4f}",
        f"{ratio:.2f}",
        *(f"{error:.1e}" for error in errors),
        *(f"{value:.1e}" for value in np.quantile(found.stationarity, [0.5, 0.95])),
        ", ".join(filter(None, (outcome.note, wrong))),
    ]
