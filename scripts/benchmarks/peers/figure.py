"""The figure of the benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.peers.outcome import Outcome, ours
from benchmarks.peers.tables import title
from savi.report.figures.style import BLUE, GREY, INK, WIDTH, styled

#: Inches of a bar, and of all else on a panel.
BAR, REST = 0.24, 1.0


@styled
def relative_times(problems: Sequence[Sequence[Outcome]], config: Mapping[str, Any]) -> Figure:
    """The time of each system relative to our fastest implicit gradient, a panel for a problem.

    Args:
        problems: the outcomes of each.
        config: that of the run.
    """
    timed = [[o for o in outcomes if o.timing.seconds] for outcomes in problems]
    timed = [outcomes for outcomes in timed if ours(outcomes, config["tolerance"]) is not None]
    heights = [BAR * len(outcomes) + REST for outcomes in timed]
    figure = Figure(figsize=(0.8 * WIDTH, sum(heights)), layout="constrained")
    panels = figure.subplots(len(timed), squeeze=False, height_ratios=heights)[:, 0]
    for axes, outcomes in zip(panels, timed, strict=True):
        _draw(axes, outcomes, config)
    return figure


def _draw(axes: Axes, outcomes: Sequence[Outcome], config: Mapping[str, Any]) -> None:
    base = ours(outcomes, config["tolerance"])
    assert base is not None
    ratios = [outcome.timing.over(base.timing) for outcome in outcomes]
    ordered = [outcomes[index] for index in np.argsort(ratios)[::-1]]
    ratios.sort(reverse=True)
    bars = axes.barh(
        [outcome.system.label for outcome in ordered],
        ratios,
        color=[BLUE if outcome.system.is_ours() else GREY for outcome in ordered],
        height=0.72,
    )
    for bar, ratio, outcome in zip(bars, ratios, ordered, strict=True):
        text = f"{ratio:.2f} ×, {outcome.timing.median:.3g} s"
        if not outcome.is_right(config["tolerance"]):
            assert outcome.judgement is not None
            bar.set(alpha=0.4, hatch="///", edgecolor="white")
            text += f", error of the gradient {outcome.judgement.off_by:.1g}"
        axes.annotate(
            text,
            (bar.get_width(), bar.get_y() + bar.get_height() / 2),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            color=INK,
            size=8,
        )
    axes.set_xlim(0.0, 1.35 * ratios[0])
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"time of an outer step relative to {base.system.label}")
    axes.set_title(title(base, config))
