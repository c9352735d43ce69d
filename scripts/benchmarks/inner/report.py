"""The tables, the targets and the figure of the benchmark, and the lines of its files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from rich.table import Table

from benchmarks.harness import Target, table
from benchmarks.inner.curves import Moment
from benchmarks.inner.solves import BASE, SHARE, Finish, Robustness, Trial, fastest, speed_of
from benchmarks.inner.training import ENCODER_LOSS, PLACES, PLAIN, Training, label
from benchmarks.lines import LINES, MARKERS, SECONDS, Line
from savi.report.figures.style import GREY, WIDTH, styled

#: The part of Adam's time that the fastest optimiser may take.
MOST_OF_ADAM = 0.2
#: Plain VAE steps that a training step may take, if enough of its inner problems are solved.
MOST_OF_PLAIN = 4.0
MEDIANS = "Medians; ratios are medians of the ratios within a round."
COLUMNS = (
    "part", "optimizer", "lr", "gamma", "K", "evaluations", "seconds", "objective", "stationarity",
    "stationarity_95", "solved",
)  # fmt: skip
#: The axes reach so far below the stationarity that counts as solved, in its own units.
BELOW = 1e-2
Finishes = Mapping[str, Finish]


def sweep_table(sweeps: Mapping[str, Sequence[Trial]], rtol: float) -> Table:
    """What each step size that was tried has led to; the best of an optimiser first."""
    rows = [
        [name, ", ".join(f"{t.lr:g}: {t.steps or f'({t.converged:.0%})'}" for t in trials)]
        for name, trials in sweeps.items()
        if len(trials) > 1
    ]
    return table(
        "Step sizes of the first-order optimisers, the best first",
        f"Steps until {SHARE:.0%} of the examples of the sweep have a relative stationarity of "
        f"{rtol:g}; in parentheses the share that has it in the end, where fewer do.",
        rows,
        left=["Optimiser"],
        last=["lr: steps"],
    )


def race_target(finishes: Finishes) -> Target | None:
    """The fastest optimiser's part of Adam's time; None if none finishes."""
    best = fastest(finishes)
    return None if best is None else Target(speed_of(finishes, best), BASE, MOST_OF_ADAM)


def race_table(
    finishes: Finishes, labels: Mapping[str, str], refusals: Mapping[str, str], rtol: float
) -> Table:
    """Seconds, steps and decoder evaluations until enough of the examples are solved."""
    left_out = "".join(f"{name} left out: {why}\n" for name, why in refusals.items())
    never = any(not finish.reached for finish in finishes.values())
    note = "> where fewer are so at the largest K. "
    if not finishes[BASE].reached:
        note += f"{BASE} is one of them, so that its ratios are bounds from above. "
    best, rows = fastest(finishes), []
    for name in ranked(finishes):
        finish = finishes[name]
        sign, speed = ("", f"{speed_of(finishes, name):.2f}") if finish.reached else (">", "–")
        numbers = f"{finish.steps}", f"{finish.evaluations:.0f}", f"{finish.timing.median:.3f}"
        share, target = f"{finish.converged:.1%}", race_target(finishes) if name == best else None
        bounds = (sign + number for number in numbers)
        rows.append([labels[name], *bounds, speed, share, f"{finish.objective:.2f}", target])
    return table(
        f"Until {SHARE:.0%} of the examples have a relative stationarity of {rtol:g}",
        f"{left_out}{note * never}Evaluations are decoded codes per example, tangents included and "
        f"backward passes not. {MEDIANS}",
        rows,
        left=["Optimiser"],
        right=["Steps", "Evaluations", "Seconds", f"× {BASE}", "Solved", "Mean J"],
        last=["Target"],
    )


def ranked(finishes: Finishes) -> list[str]:
    """The optimisers by their time, those last that never finish."""
    return sorted(finishes, key=lambda n: (not finishes[n].reached, finishes[n].timing.median))


def gamma_table(found: Mapping[str, Sequence[Robustness]], max_steps: int, rtol: float) -> Table:
    """The share of examples that are solved at each γ, and the steps until enough are."""
    rows = [
        [name, *(f"{p.converged:.1%}" + (f" ({p.steps})" if p.steps is not None else "")
                 for p in points)]
        for name, points in found.items()
    ]  # fmt: skip
    return table(
        f"γ times a factor, options unchanged: examples solved within {max_steps} steps",
        f"Solved: a relative stationarity of {rtol:g}. In parentheses the steps until {SHARE:.0%} "
        "of the examples are, where so many are.",
        rows,
        left=["Optimiser"],
        right=[f"γ × {point.factor:g}" for point in next(iter(found.values()))],
    )


def training_table(found: Mapping[str, Training], rtol: float) -> Table:
    """Seconds of a training step in units of a plain VAE's, and the share that is solved."""
    rows: list[list[object]] = []
    for name, training in found.items():
        seconds, ratio = f"{training.timing.median:.4f}", training.timing.over(found[PLAIN].timing)
        if name == PLAIN:
            rows.append([name, seconds, "", "", ""])
            continue
        target: object = Target(ratio, "plain", MOST_OF_PLAIN)
        if training.solved < SHARE:
            target = f"{ratio:.2f} × plain, too few solved: MISSED"
        rows.append([name, seconds, f"{training.steps:.1f}", f"{training.solved:.1%}", target])
    return table(
        "A whole training step: encoder, solve, outer loss, backward, AdamW",
        f"Solved: the share of the examples with a relative stationarity of {rtol:g}; a target is "
        f"met where it is at least {SHARE:.0%}. {MEDIANS}",
        rows,
        left=["Configuration"],
        right=["Seconds", "Inner steps", "Solved"],
        last=["Ratio, target"],
        wrap=["Configuration"],
    )


def inner_rows(
    sweeps: Mapping[str, Sequence[Trial]], curves: Mapping[str, Sequence[Moment]],
    finishes: Finishes, robust: Mapping[str, Sequence[Robustness]],
) -> list[dict[str, Any]]:  # fmt: skip
    """Of ``inner.csv``; a cell is empty where a part does not measure its column.

    K is the number of steps, in the parts ``sweep``, ``race`` and ``gamma`` that after which enough
    examples are solved (empty where they never are, but the most that was allowed in ``race``).
    """
    rows = []

    def add(part: str, name: str, lr: float | None = None, **values: Any) -> None:
        """``gamma`` is the factor on γ."""
        best = sweeps[name][0].lr if lr is None else lr
        given = {"part": part, "optimizer": name, "lr": best, "gamma": 1.0} | values
        rows.append({column: given.get(column) for column in COLUMNS})

    for name, trials in sweeps.items():
        for t in trials:
            add("sweep", name, t.lr, K=t.steps, stationarity_95=t.stationarity, solved=t.converged)
    for name, moments in curves.items():
        for m in moments:
            add("curve", name, K=m.steps, stationarity_95=m.most, **m._asdict())
    for name, f in finishes.items():
        add("race", name, K=f.steps, evaluations=f.evaluations, seconds=f.timing.median,
            objective=f.objective, solved=f.converged)  # fmt: skip
    for name, points in robust.items():
        for p in points:
            add("gamma", name, gamma=p.factor, K=p.steps, solved=p.converged)
    return rows


def training_rows(
    configurations: Sequence[Mapping[str, Any]], found: Mapping[str, Training]
) -> list[dict[str, Any]]:
    """Of ``inner_training.csv``: the plain VAE, and each configuration with its keys."""
    by_label: dict[str, Mapping[str, Any]] = {PLAIN: {}}
    by_label |= {label(configuration): configuration for configuration in configurations}
    return [
        {key: by_label[name].get(key) for key in (*PLACES, ENCODER_LOSS)}
        | {
            "name": name,
            "steps": None if name == PLAIN else training.steps,
            "solved": None if name == PLAIN else training.solved,
            "seconds": training.timing.median,
            "ratio": training.timing.over(found[PLAIN].timing),
        }
        for name, training in found.items()
    ]


@styled
def stationarity(curves: Mapping[str, Sequence[Moment]], rtol: float) -> Figure:
    """How flat J is for most of the examples, against decoder evaluations and against seconds."""
    figure = Figure(figsize=(1.3 * WIDTH, 0.42 * WIDTH), layout="constrained")
    work, clock = figure.subplots(1, 2, sharey=True)
    for axes, of in ((work, "evaluations"), (clock, "seconds")):
        axes.axhline(rtol, color=GREY, linewidth=1.0, linestyle=(0, (1, 2)))
        for index, ((name, moments), look) in enumerate(zip(curves.items(), LINES, strict=False)):
            drawn = [m for m in moments if 0.0 < m.most < math.inf]
            x, y = [getattr(m, of) for m in drawn], [m.most for m in drawn]
            Line(name, x, y, look | {"marker": MARKERS[index % len(MARKERS)]}).draw(axes)
        axes.set_xscale("log")
        axes.set_yscale("log")
    work.set(title="Work", xlabel="decoded codes per example, tangents included")
    clock.set(title="Time", xlabel="since the start, for the whole batch")
    work.set_ylim(bottom=BELOW * rtol)
    share = PercentFormatter(1.0, decimals=0).format_pct(SHARE, 1.0)
    work.set_ylabel(f"relative stationarity of {share} of the examples")
    clock.xaxis.set_major_formatter(SECONDS)
    handles, labels = work.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", handlelength=3.0)
    return figure
