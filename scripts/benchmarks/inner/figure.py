"""The figure of the benchmark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter

from benchmarks.inner.candidates import SHARE
from benchmarks.inner.curves import Moment
from benchmarks.memory.figure import LINES, MARKERS
from savi.report.figures.style import GREY, WIDTH, styled

#: The axes reach so far below the stationarity that counts as solved, in its own units.
BELOW = 1e-2
#: The quantity of each panel, its title, and what stands below it.
PANELS = {
    "evaluations": ("Work", "decoded codes per example, tangents included"),
    "seconds": ("Time", "since the start, for the whole batch"),
}


@styled
def stationarity(curves: Mapping[str, Sequence[Moment]], rtol: float) -> Figure:
    """How flat J is for most of the examples, against decoder evaluations and against seconds.

    Args:
        curves: by label, in the order of the legend.
        rtol: what counts as solved, drawn as a line.
    """
    figure = Figure(figsize=(1.3 * WIDTH, 0.42 * WIDTH), layout="constrained")
    cells = figure.subplots(1, len(PANELS), sharey=True)
    for axes, (quantity, (title, text)) in zip(cells, PANELS.items(), strict=True):
        axes.axhline(rtol, color=GREY, linewidth=1.0, linestyle=(0, (1, 2)))
        for index, ((name, moments), look) in enumerate(zip(curves.items(), LINES, strict=False)):
            drawn = [m for m in moments if 0.0 < m.most < math.inf]
            axes.plot(
                [getattr(moment, quantity) for moment in drawn],
                [moment.most for moment in drawn],
                label=name,
                marker=MARKERS[index % len(MARKERS)],
                **look,
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel(text)
        axes.set_title(title)
    cells[0].set_ylim(bottom=BELOW * rtol)
    share = PercentFormatter(1.0, decimals=0).format_pct(SHARE, 1.0)
    cells[0].set_ylabel(f"relative stationarity of {share} of the examples")
    cells[1].xaxis.set_major_formatter(EngFormatter(unit="s"))
    handles, labels = cells[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", handlelength=3.0)
    return figure
