"""The figures of the benchmark."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    EngFormatter,
    Formatter,
    LogFormatterSciNotation,
    LogLocator,
    NullFormatter,
)

from benchmarks.cost.growth import exponent, series
from benchmarks.cost.measure import Cost
from benchmarks.cost.variants import Variant
from benchmarks.labels import End, label_ends
from benchmarks.memory.figure import LINES, MARKERS
from savi.report.figures.style import INK, PALETTE, WIDTH, styled

HEIGHT = 0.42 * WIDTH
#: Up to so many decades an axis is labelled at 2 and 5 times the powers of ten, too.
FEW_DECADES = 1.7
SHORT = {
    "checkpointed every=sqrt": "checkpointed √K",
    "checkpointed every=step": "checkpointed 1",
    "levenberg_marquardt": "LM",
}

Costs = Mapping[Variant, Cost]


@dataclass(frozen=True)
class Panel:
    """A quantity on a logarithmic axis."""

    title: str
    unit: str
    of: Callable[[Cost], float | None]
    formatter: Formatter


def seconds_of(cost: Cost) -> float:
    """The median time."""
    return cost.timing.median


def peak_of(cost: Cost) -> float | None:
    """The peak of memory."""
    return None if cost.memory is None else cost.memory.peak


PEAK = Panel("Peak memory", "bytes", peak_of, EngFormatter(unit="B"))
SECONDS = Panel("Time", "seconds", seconds_of, EngFormatter(unit="s"))
ERROR = Panel(
    "Gradient error", "relative error", lambda cost: cost.error, LogFormatterSciNotation()
)


@styled
def cost_against_steps(costs: Costs, beside: str) -> Figure:
    """Peak memory, time and gradient error of every backend against K, side by side.

    Args:
        costs: by variant.
        beside: another inner optimiser, with which ``ift`` is drawn too.
    """
    lines = {backend: found for (backend, _), found in series(costs, "steps").items()}
    other = f"ift, {SHORT.get(beside, beside)}"
    extra = series(costs, "optimizers").get(("ift", beside))
    if extra is not None:
        lines[other] = extra
    figure = Figure(figsize=(1.5 * WIDTH, HEIGHT), layout="constrained")
    cells = figure.subplots(1, 3, sharex=True)
    for axes, panel in zip(cells, (PEAK, SECONDS, ERROR), strict=True):
        ends = []
        for (name, found), look in zip(lines.items(), looks(), strict=False):
            look = look | ({"color": INK, "linestyle": "-"} if name == other else {})
            sizes = [variant.K for variant, _ in found]
            ends += _line(axes, panel, sizes, found, SHORT.get(name, name), look)
        _finish(axes, panel, sizes, "inner steps K", ends, 0.75 * HEIGHT)
    return figure


@styled
def growth(costs: Costs) -> Figure:
    """Time and peak memory of ``ift`` and ``stop`` against B and against d."""
    figure = Figure(figsize=(1.5 * WIDTH, 1.6 * HEIGHT), layout="constrained")
    cells = figure.subplots(2, 2)
    axes_of = {"batch": ("B", "examples B"), "latent_dim": ("d", "latent dimensions d")}
    for row, (part, (field, label)) in zip(cells, axes_of.items(), strict=True):
        for axes, panel in zip(row, (SECONDS, PEAK), strict=True):
            ends = []
            lines = series(costs, part)
            for ((backend, optimizer), found), look in zip(lines.items(), looks(), strict=False):
                sizes = [getattr(variant, field) for variant, _ in found]
                slope = exponent(sizes, [panel.of(cost) or 0.0 for _, cost in found])
                text = f"{backend}, {SHORT.get(optimizer, optimizer)}: {field}$^{{{slope:.2f}}}$"
                ends += _line(axes, panel, sizes, found, text, look)
            _finish(axes, panel, sizes, label, ends, 0.6 * HEIGHT)
    return figure


def looks() -> Iterator[dict[str, object]]:
    """A colour, a dash and a marker for each line; every second one thin, with hollow markers.

    Neighbours may lie on each other: a thin line with hollow markers lets the other show.
    """
    for index, look in enumerate(LINES):
        thin = index % 2 == 1
        yield look | {
            "marker": MARKERS[index % len(MARKERS)],
            "markersize": 7 if thin else 4,
            "markerfacecolor": "none" if thin else None,
            "linewidth": 1.2 if thin else 2.0,
        }


def _line(
    axes: Axes,
    panel: Panel,
    sizes: list[int],
    found: list[tuple[Variant, Cost]],
    text: str,
    look: Mapping[str, object],
) -> list[End]:
    values = [panel.of(cost) for _, cost in found]
    drawn = [value for value in values if value is not None]
    if len(drawn) < len(values):
        return []
    axes.plot(sizes, drawn, **look)  # type: ignore[arg-type]
    return [End(sizes[-1], drawn[-1], text, str(look.get("color", PALETTE[0])))]


def _finish(
    axes: Axes, panel: Panel, sizes: list[int], label: str, ends: list[End], height: float
) -> None:
    log_axes(axes, panel, sizes, label)
    axes.set_ylabel(panel.unit)
    axes.set_title(panel.title)
    label_ends(axes, ends, height=height)


def log_axes(axes: Axes, panel: Panel, sizes: Sequence[int], label: str) -> None:
    """Scales, ticks and the lower label of axes on which all lines are drawn."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.xaxis.minorticks_off()
    low, high = axes.get_ylim()
    few = math.log10(high / low) < FEW_DECADES
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(panel.formatter)
    axes.set_xlabel(label)
