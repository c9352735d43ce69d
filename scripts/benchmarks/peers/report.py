"""What is made of the measurements: who is right, the targets, the tables and the figure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

from benchmarks.harness import Config, Target, table
from benchmarks.peers.outcome import Outcome
from benchmarks.peers.systems import System
from savi.report.figures.style import BLUE, GREY, INK, WIDTH, styled


def fastest(outcomes: Iterable[Outcome], tolerance: float) -> Outcome | None:
    """The fastest of those that are right, if any is."""
    right = [outcome for outcome in outcomes if outcome.is_right(tolerance)]
    return min(right, key=lambda outcome: outcome.timing.median, default=None)


def ours(outcomes: Iterable[Outcome], tolerance: float) -> Outcome | None:
    """The fastest implicit gradient of this library."""
    return fastest((o for o in outcomes if _is_base(o.system)), tolerance)


def _is_base(system: type[System]) -> bool:
    return system.is_ours() and system.kind in ("ift", "second_order")


#: From so many dimensions on, the images count as large.
LARGE = 10_000


class Rival(NamedTuple):
    """The fastest of a group of other systems."""

    group: str  # which, in words
    outcome: Outcome  # of that system
    target: Target  # its time in units of ours


def rivals(outcomes: Sequence[Outcome], tolerance: float) -> list[Rival]:
    """Our fastest implicit gradient against the fastest peers; only right gradients count."""
    base = ours(outcomes, tolerance)
    if base is None:
        return []
    peers = [outcome for outcome in outcomes if not outcome.system.is_ours()]
    groups: list[tuple[str, Sequence[Outcome], float]]
    if base.part == "converged":
        first, second = (_of_kind(peers, kind) for kind in ("first_order", "second_order"))
        groups = [("first-order", first, 10.0), ("second-order", second, 3.0)]
    elif base.data_dim >= LARGE:
        groups = [("all", peers, 8.0)]
    else:
        groups = [("all", peers, 2.0), ("unrolled", _of_kind(peers, "unrolled"), 5.0)]
    return [
        Rival(
            group, found, Target(found.timing.over(base.timing), base.system.label, math.inf, least)
        )
        for group, members, least in groups
        if (found := fastest(members, tolerance)) is not None
    ]


def _of_kind(outcomes: Sequence[Outcome], kind: str) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.system.kind == kind]


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


#: Inches of a bar, and of all else on a panel.
BAR, REST = 0.24, 1.0


@styled
def relative_times(problems: Sequence[Sequence[Outcome]], config: Config) -> Figure:
    """The time of each system relative to our fastest implicit gradient, a panel for a problem."""
    timed = [[o for o in outcomes if o.timing.seconds] for outcomes in problems]
    timed = [outcomes for outcomes in timed if ours(outcomes, config["tolerance"]) is not None]
    heights = [BAR * len(outcomes) + REST for outcomes in timed]
    figure = Figure(figsize=(0.8 * WIDTH, sum(heights)), layout="constrained")
    panels = figure.subplots(len(timed), squeeze=False, height_ratios=heights)[:, 0]
    for axes, outcomes in zip(panels, timed, strict=True):
        _draw(axes, outcomes, config)
    return figure


def _draw(axes: Axes, outcomes: Sequence[Outcome], config: Config) -> None:
    base = ours(outcomes, config["tolerance"])
    assert base is not None
    ratios = [outcome.timing.over(base.timing) for outcome in outcomes]
    ordered = [outcomes[index] for index in np.argsort(ratios)[::-1]]
    ratios.sort(reverse=True)
    labels = [outcome.system.label for outcome in ordered]
    colours = [BLUE if outcome.system.is_ours() else GREY for outcome in ordered]
    bars = axes.barh(labels, ratios, color=colours, height=0.72)
    for bar, ratio, outcome in zip(bars, ratios, ordered, strict=True):
        text = f"{ratio:.2f} ×, {outcome.timing.median:.3g} s"
        if not outcome.is_right(config["tolerance"]):
            assert outcome.judgement is not None
            bar.set(alpha=0.4, hatch="///", edgecolor="white")
            text += f", error of the gradient {outcome.judgement.off_by:.1g}"
        end, look = (bar.get_width(), bar.get_y() + bar.get_height() / 2), {"color": INK, "size": 8}
        axes.annotate(text, end, (4, 0), textcoords="offset points", va="center", **look)
    axes.set_xlim(0.0, 1.35 * ratios[0])
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"time of an outer step relative to {base.system.label}")
    axes.set_title(title(base, config))
