"""The tables of the benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from benchmarks.inner.candidates import SHARE, Trial
from benchmarks.inner.race import BASE, Finish, Robustness, fastest, speed_of
from benchmarks.inner.training import PLAIN, Training
from benchmarks.table import benchmark_table
from benchmarks.target import Target

#: The part of Adam's time that the fastest optimiser may take.
MOST_OF_ADAM = 0.2
#: Plain VAE steps that a training step may take, if enough of its inner problems are solved.
MOST_OF_PLAIN = 4.0

MEDIANS = "Medians; ratios are medians of the ratios within a round."


def sweep_table(sweeps: Mapping[str, Sequence[Trial]], rtol: float) -> Table:
    """What each step size that was tried has led to; the best of an optimiser first."""
    table = benchmark_table(
        "Step sizes of the first-order optimisers, the best first",
        f"Steps until {SHARE:.0%} of the examples of the sweep have a relative stationarity of "
        f"{rtol:g}; in parentheses the share that has it in the end, where fewer do.",
    )
    table.add_column("Optimiser", no_wrap=True)
    table.add_column("lr: steps")
    for name, trials in sweeps.items():
        if len(trials) > 1:
            cells = (
                f"{trial.lr:g}: {trial.steps or f'({trial.converged:.0%})'}" for trial in trials
            )
            table.add_row(name, Text(", ".join(cells)))
    return table


def race_target(finishes: Mapping[str, Finish]) -> Target | None:
    """The fastest optimiser's part of Adam's time; None if none finishes."""
    best = fastest(finishes)
    return None if best is None else Target(speed_of(finishes, best), BASE, MOST_OF_ADAM)


def race_table(
    finishes: Mapping[str, Finish],
    labels: Mapping[str, str],
    refusals: Mapping[str, str],
    rtol: float,
) -> Table:
    """Seconds, steps and decoder evaluations until enough of the examples are solved."""
    left_out = "".join(f"{name} left out: {why}\n" for name, why in refusals.items())
    never = any(not finish.reached for finish in finishes.values())
    note = "> where fewer are so at the largest K. "
    if not finishes[BASE].reached:
        note += f"{BASE} is one of them, so that its ratios are bounds from above. "
    table = benchmark_table(
        f"Until {SHARE:.0%} of the examples have a relative stationarity of {rtol:g}",
        f"{left_out}{note * never}Evaluations are decoded codes per example, tangents included and "
        f"backward passes not. {MEDIANS}",
    )
    table.add_column("Optimiser", no_wrap=True)
    for heading in ("Steps", "Evaluations", "Seconds", f"× {BASE}", "Solved", "Mean J"):
        table.add_column(heading, justify="right")
    table.add_column("Target")
    best = fastest(finishes)
    for name, finish in sorted(finishes.items(), key=_place):
        sign = "" if finish.reached else ">"
        table.add_row(
            labels[name],
            f"{sign}{finish.steps}",
            f"{sign}{finish.evaluations:.0f}",
            f"{sign}{finish.timing.median:.3f}",
            f"{speed_of(finishes, name):.2f}" if finish.reached else "–",
            f"{finish.converged:.1%}",
            f"{finish.objective:.2f}",
            Text(str(race_target(finishes)) if name == best else ""),
        )
    return table


def _place(item: tuple[str, Finish]) -> tuple[bool, float]:
    return not item[1].reached, item[1].timing.median


def gamma_table(found: Mapping[str, Sequence[Robustness]], max_steps: int, rtol: float) -> Table:
    """The share of examples that are solved at each γ, and the steps until enough are."""
    table = benchmark_table(
        f"γ times a factor, options unchanged: examples solved within {max_steps} steps",
        f"Solved: a relative stationarity of {rtol:g}. In parentheses the steps until {SHARE:.0%} "
        "of the examples are, where so many are.",
    )
    table.add_column("Optimiser", no_wrap=True)
    for point in next(iter(found.values())):
        table.add_column(f"γ × {point.factor:g}", justify="right")
    for name, points in found.items():
        cells = (
            f"{point.converged:.1%}" + (f" ({point.steps})" if point.steps is not None else "")
            for point in points
        )
        table.add_row(name, *map(Text, cells))
    return table


def training_table(found: Mapping[str, Training], rtol: float) -> Table:
    """Seconds of a training step in units of a plain VAE's, and the share that is solved."""
    table = benchmark_table(
        "A whole training step: encoder, solve, outer loss, backward, AdamW",
        f"Solved: the share of the examples with a relative stationarity of {rtol:g}; a target is "
        f"met where it is at least {SHARE:.0%}. {MEDIANS}",
    )
    table.add_column("Configuration")
    for heading in ("Seconds", "Inner steps", "Solved"):
        table.add_column(heading, justify="right")
    table.add_column("Ratio, target")
    plain = found[PLAIN].timing
    for name, training in found.items():
        seconds = f"{training.timing.median:.4f}"
        if name == PLAIN:
            table.add_row(name, seconds, "", "", "")
            continue
        target = str(Target(training.timing.over(plain), "plain", MOST_OF_PLAIN))
        if training.solved < SHARE:
            target = f"{training.timing.over(plain):.2f} × plain, too few solved: MISSED"
        table.add_row(
            Text(name), seconds, f"{training.steps:.1f}", f"{training.solved:.1%}", Text(target)
        )
    return table
