"""The figure of the benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cycler import cycler
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from benchmarks.memory.measure import Usage
from savi.report.figures.style import PALETTE, WIDTH, styled

LINES = cycler(linestyle=["-", (0, (5, 2)), (0, (1, 1.5))]) * cycler(color=PALETTE)
MARKERS = "osD^v<>pX"


@styled
def peak_against_steps(usages: Mapping[str, Sequence[Usage]]) -> Figure:
    """The peak of live bytes of each backend against K, on log axes.

    Args:
        usages: by backend, in increasing order of K.
    """
    figure = Figure(figsize=(0.8 * WIDTH, 0.45 * WIDTH), layout="constrained")
    axes = figure.subplots()
    axes.set_prop_cycle(LINES)
    # The legend stands in the order in which the lines end.
    ordered = sorted(usages, key=lambda name: -usages[name][-1].peak)
    for index, name in enumerate(ordered):
        steps, peaks = zip(*((usage.steps, usage.peak) for usage in usages[name]), strict=True)
        # Neighbours may lie on each other: a thin line with hollow markers lets the other show.
        thin = index % 2 == 1
        axes.plot(
            steps,
            peaks,
            label=name,
            marker=MARKERS[index % len(MARKERS)],
            markersize=8 if thin else 4,
            markerfacecolor="none" if thin else None,
            linewidth=1.2 if thin else 2.0,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(steps, map(str, steps))
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(EngFormatter(unit="B"))
    axes.set_xlabel("inner steps K")
    axes.set_ylabel("peak of live bytes")
    axes.set_title("Memory of an outer step")
    figure.legend(loc="outside right center", handlelength=3.0)
    return figure
