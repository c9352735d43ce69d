"""The figure of the race: log-likelihood and lead over the best VAE against CPU seconds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from benchmarks.lines import Line, label_lines, looks
from benchmarks.race.methods import METHODS, VAES
from benchmarks.race.report import BEST, Summaries, curves, leads, means
from benchmarks.race.run import Row
from savi.report.figures.style import GREY, INK, WIDTH, styled
from savi.report.settings import Summary

HEIGHT = 3.6
#: What lags by more nats is out of sight: all that lead would else lie on one line.
LAG = 100.0


@styled
def race_figure(rows: Sequence[Row]) -> Figure:
    """A column for each number of training images; bands are 95 % intervals over the seeds."""
    sizes = sorted({row.size for row in rows})
    figure = Figure(figsize=(0.55 * WIDTH * len(sizes), 2 * HEIGHT), layout="constrained")
    cells = figure.subplots(2, len(sizes), squeeze=False)
    for (top, bottom), size in zip(cells.T, sizes, strict=True):
        found = curves(rows, size)
        _panel(top, means(found))
        top.set_title(f"{size:,} training images")
        bottom.axhline(0.0, color=INK, linewidth=1.0, zorder=1)
        _panel(bottom, leads(found), least=-LAG)
        bottom.set_xlabel("CPU seconds of training")
    cells[0, 0].set_ylabel("test log-likelihood, nats")
    cells[1, 0].set_ylabel(f"nats over the {BEST}")
    return figure


def _panel(axes: Axes, summaries: Summaries, least: float = -math.inf) -> None:
    styles, lines = _styles(), []
    for name, by_mark in summaries.items():
        known = {mark: summary for mark, summary in by_mark.items() if summary.n}
        if known:
            lines.append(Line(name, [*known], [s.mean for s in known.values()], styles[name]))
            _band(axes, known, styles[name]["color"])
    for line in lines:
        line.draw(axes)
    axes.set_ylim(bottom=max(least, axes.get_ylim()[0]))
    axes.set_xscale("log")
    if lines:
        marks = max((line.x for line in lines), key=len)
        axes.set_xticks(marks, [f"{mark:g}" for mark in marks], rotation=60)
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.minorticks_off()
        label_lines(axes, [line for line in lines if line.text not in VAES], height=HEIGHT)


def _band(axes: Axes, by_mark: Mapping[float, Summary], colour: str) -> None:
    halves = [summary.half_width or 0.0 for summary in by_mark.values()]
    centre = [summary.mean for summary in by_mark.values()]
    low, high = ([m + sign * h for m, h in zip(centre, halves, strict=True)] for sign in (-1, 1))
    axes.fill_between([*by_mark], low, high, color=colour, alpha=0.12, linewidth=0)


def _styles() -> dict[str, dict[str, Any]]:
    """A look for every line that is the same in all panels; the VAE's settings stay behind."""
    behind = {"color": GREY, "linewidth": 0.8, "linestyle": "-"}
    best = {"color": INK, "linewidth": 2.4, "linestyle": "-"}
    others = [name for name in METHODS if name not in VAES]
    styles = dict(zip(others, looks(), strict=False))
    return {BEST: best, **dict.fromkeys(VAES, behind), **styles}
