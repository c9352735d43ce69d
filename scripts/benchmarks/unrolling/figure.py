"""The figure of the benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.cost.figure import ERROR, PEAK, SECONDS, SHORT, Panel, log_axes
from benchmarks.memory.targets import SQRT
from benchmarks.unrolling.measure import CG, Outcome
from savi.report.figures.style import BLUE, GREEN, INK, PURPLE, VERMILION, WIDTH, styled

LABELS = {**SHORT, "ift": "ift, Cholesky", CG: "ift, conjugate gradients"}
#: Three backends have the same error: thick under thin, and hollow markers of three sizes.
LOOKS: dict[str, dict[str, Any]] = {
    "unrolled": {"color": BLUE, "marker": "o", "linewidth": 2.8, "markersize": 4},
    SQRT: {"color": VERMILION, "marker": "s", "linewidth": 1.4, "markersize": 6},
    "reversible": {"color": GREEN, "marker": "D", "linestyle": (0, (4, 3)), "markersize": 9},
    "ift": {"color": INK, "marker": "o", "linewidth": 2.2, "markersize": 5},
    CG: {"color": PURPLE, "marker": "^", "linestyle": (0, (1, 1.2)), "markersize": 7},
}
FILLED = ("unrolled", "ift")


@styled
def unrolling_figure(outcomes: Mapping[str, Outcome]) -> Figure:
    """Peak memory, time and gradient error against K: a row for each problem.

    Args:
        outcomes: by the name of the problem.
    """
    figure = Figure(figsize=(WIDTH, 0.64 * WIDTH), layout="constrained")
    cells = figure.subplots(len(outcomes), 3, sharex=True, squeeze=False)
    for row, (problem, outcome) in zip(cells, outcomes.items(), strict=True):
        for axes, panel in zip(row, (PEAK, SECONDS, ERROR), strict=True):
            _draw(axes, panel, outcome)
            axes.set_title(f"{problem}: {panel.title.lower()}")
    for axes in cells[:-1].flat:
        axes.set_xlabel("")
    handles, labels = cells[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), handlelength=3.0)
    return figure


def _draw(axes: Axes, panel: Panel, outcome: Outcome) -> None:
    for name in outcome.backends:
        axes.plot(
            outcome.steps,
            [panel.of(cost) for cost in outcome.of(name)],  # type: ignore[arg-type]
            label=LABELS.get(name, name),
            markerfacecolor=None if name in FILLED else "none",
            **LOOKS[name],
        )
    log_axes(axes, panel, outcome.steps, "inner steps K")
