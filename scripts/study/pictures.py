"""The pictures of a study: how far each method lies from the VAE, and what the clock says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

from benchmarks.lines import Line as Curve
from benchmarks.lines import label_lines, looks
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from savi.report.figures.style import BLUE, INK, WIDTH, styled
from savi.report.settings import Summary
from study.plan import Block
from study.tables import DIFFERENCE, Line
from study.values import BASE

#: Inches: of a method's line, and of what is around them.
EACH, AROUND = 0.24, 1.4


@styled
def block_figure(block: Block, found: Sequence[Line]) -> Figure:
    """The differences from the VAE, seed for seed; beside them the curves, if there are marks."""
    height = AROUND + EACH * max(len(found), 9)
    panels = 1 + bool(block.marks)
    figure = Figure(figsize=(0.5 * WIDTH * panels, height), layout="constrained")
    figure.suptitle(block.title, x=0.01, ha="left")
    cells = figure.subplots(1, panels, squeeze=False)[0]
    _differences(cells[0], block, found)
    if block.marks:
        _curves(cells[1], block, found, height)
    return figure


def _differences(axes: Axes, block: Block, found: Sequence[Line]) -> None:
    known = [line for line in found if DIFFERENCE in line.figures]
    axes.axvline(0.0, color=INK, linewidth=1.0, zorder=1)
    for place, line in enumerate(known):
        summary = line.figures[DIFFERENCE]
        half = summary.half_width or 0.0
        axes.errorbar([summary.mean], [place], xerr=[half], fmt="o", color=BLUE, capsize=2.5)
    axes.set_yticks(range(len(known)), [line.method for line in known])
    axes.set_ylim(len(known) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"{block.columns[0].heading} less the VAE's, nats")
    axes.set_title("Differences from the VAE, seed for seed")


def _curves(axes: Axes, block: Block, found: Sequence[Line], height: float) -> None:
    # There may be more lines than looks: then they are told apart by the names at their ends.
    styles, curves = cycle(looks()), []
    for line in found:
        known = _at_marks(block, line.figures)
        if len(known) > 1:
            vae = {"color": INK, "linewidth": 2.4, "linestyle": "-"}
            look = vae if line.method == BASE else next(styles)
            means = [summary.mean for summary in known.values()]
            curves.append(Curve(line.method, [*known], means, look))
    for curve in curves:
        curve.draw(axes)
    axes.set_xscale("log")
    axes.set_xticks(block.marks, [f"{mark:g}" for mark in block.marks])
    axes.xaxis.minorticks_off()
    axes.set_xlabel("CPU seconds of training steps")
    sign = "−" if block.at_marks.factor < 0 else ""
    axes.set_ylabel(f"{sign}{block.at_marks.metric}, nats")
    axes.set_title("The best so far, by the clock")
    label_lines(axes, curves, height=height)


def _at_marks(block: Block, figures: Mapping[str, Summary]) -> dict[float, Summary]:
    return {mark: figures[block.at(mark)] for mark in block.marks if block.at(mark) in figures}
