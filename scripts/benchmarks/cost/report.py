"""The tables, targets and figures of the benchmark, and the lines of its file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import Formatter
from rich.filesize import decimal
from rich.table import Table

from benchmarks.cost.variants import PAIRED, Costs, Lines, Variant, series
from benchmarks.harness import Target, table
from benchmarks.lines import BYTES, POWERS, SECONDS, Line, label_lines, log_panel, looks
from benchmarks.outer_step import SQRT, STEP, Cost
from savi.report.figures.style import INK, WIDTH, styled

#: What ``ift`` may take at the largest K in units of ``stop``; what it may hold at the largest long
#: K in units of the smallest; and what a cost may take at the largest size, in units of what linear
#: growth from the smallest one would lead to.
MOST_TIME, MOST_MEMORY, MOST_GROWTH = 1.15, 1.05, 1.1
SHORT = {SQRT: "checkpointed √K", STEP: "checkpointed 1", "levenberg_marquardt": "LM"}
HEIGHT = 0.42 * WIDTH


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The p of cost = C size^p: least squares in their logarithms."""
    x, y = ([math.log(value) for value in values] for values in (sizes, costs))
    centre_x, centre_y = sum(x) / len(x), sum(y) / len(y)
    rise = sum((a - centre_x) * (b - centre_y) for a, b in zip(x, y, strict=True))
    return rise / sum((a - centre_x) ** 2 for a in x)


def linear(sizes: Sequence[float], costs: Sequence[float]) -> Target:
    """The cost at the largest size, which linear growth from the smallest one may explain."""
    return Target(costs[-1] / costs[0] * sizes[0] / sizes[-1], "linear growth", MOST_GROWTH)


def time_target(costs: Costs) -> Target:
    """Seconds of ``ift`` over those of ``stop`` at the largest K."""
    ours = {backend: found[-1][1] for (backend, _), found in series(costs, "steps").items()}
    return Target(ours["ift"].timing.over(ours["stop"].timing), "stop", MOST_TIME)


def memory_target(found: Sequence[tuple[Variant, Cost]]) -> Target:
    """Peak memory of a backend at the largest long K over that at the smallest."""
    (first, few), *_, (_, many) = found
    return Target(many.peak / few.peak, f"K = {first.K}", MOST_MEMORY)


def backend_tables(costs: Costs) -> list[Table]:
    """Seconds, peak memory and gradient error of every backend at each K, and the long peaks."""
    lines, long = series(costs, "steps"), series(costs, "long")
    bounded = {backend: memory_target(found) for (backend, _), found in long.items()}
    whole = (
        "An outer step: the solve, the outer loss at its end and the backward to all weights. "
        "Medians; the target is one of the largest K."
    )
    held = "The most bytes that were held at any time beyond weights and data."
    exact = "Against the gradient at the exact inner solution, in double precision."
    largest = "The targets are ones of the largest K."
    step = "of an outer step with K momentum steps"
    few_many = "Peak memory at few and at many momentum steps"
    return [
        _against_steps(f"Seconds {step}", whole, lines, _seconds, {"ift": time_target(costs)}),
        _against_steps(f"Peak memory {step}", held, lines, _peak),
        _against_steps("Relative error of its gradient", exact, lines, _error),
        _against_steps(few_many, largest, long, _peak, bounded),
    ]


def _against_steps(
    title: str, caption: str, lines: Lines, cell: Callable[[Cost], str],
    targets: Mapping[str, Target] | None = None,
) -> Table:  # fmt: skip
    rows = [
        [backend, *(cell(cost) for _, cost in found), *([targets.get(backend)] if targets else [])]
        for (backend, _), found in lines.items()
    ]
    counts = [f"K = {variant.K:,}" for variant, _ in next(iter(lines.values()))]
    last = ["Target"] if targets else []
    return table(title, caption, rows, left=["Backend"], right=counts, last=last)


def optimizer_table(costs: Costs) -> Table:
    """Every other inner optimiser with ``ift`` and ``stop``: seconds and gradient error."""
    refusals = {
        variant.optimizer: cost.timing.refusal
        for variant, cost in costs.items()
        if variant.part == "optimizers" and cost.timing.refusal is not None
    }
    left_out = "".join(f"{name} left out: {why}\n" for name, why in refusals.items())
    lines = series(costs, "optimizers")
    rows = [
        [f"{optimizer}, {backend}", *(f"{_seconds(cost)} / {_error(cost)}" for _, cost in found)]
        for (backend, optimizer), found in sorted(lines.items(), key=lambda item: item[0][::-1])
    ]
    return table(
        "Other inner optimisers: seconds / relative gradient error at K steps",
        f"{left_out}Optimisers with their defaults; gd with the step size of momentum.",
        rows,
        left=["Optimiser, backend"],
        right=[f"K = {variant.K}" for variant, _ in next(iter(lines.values()))],
    )


def growth_table(costs: Costs) -> Table:
    """The exponents p of cost = C size^p, and what is asked of those in B."""
    rows = []
    for part, size in (("steps", "K"), ("batch", "B"), ("latent_dim", "d")):
        for (backend, optimizer), found in series(costs, part).items():
            if backend in PAIRED:
                sizes = [getattr(variant, size) for variant, _ in found]
                seconds = [cost.timing.median for _, cost in found]
                slopes = (exponent(sizes, v) for v in (seconds, [c.peak for _, c in found]))
                target = None if size == "d" else linear(sizes, seconds)
                cells = [f"{slope:.2f}" for slope in slopes]
                rows.append([size, f"{backend}, {optimizer}", *cells, target])
    steps = next(variant.K for variant in costs if variant.part == "batch")
    return table(
        f"Growth of an outer step: p of cost ∝ size^p (B and d at K = {steps})",
        "Least squares of the logarithms. Targets: the seconds at the largest size, in units of "
        "linear growth from the smallest.",
        rows,
        left=["Against", "Backend, optimiser"],
        right=["p of seconds", "p of peak"],
        last=["Seconds, target"],
    )


def _seconds(cost: Cost) -> str:
    return f"{cost.timing.median:.3f}"


def _peak(cost: Cost) -> str:
    return decimal(int(cost.peak))


def _error(cost: Cost) -> str:
    return f"{cost.error:.1e}"


def csv_row(variant: Variant, cost: Cost) -> dict[str, Any]:
    """A line of ``cost.csv``; empty cells where it was refused, or nothing was measured."""
    memory = cost.memory
    return variant._asdict() | {
        "seconds": cost.timing.median if cost.timing.seconds else None,
        "saved": memory and memory.saved,
        "peak": memory and memory.live,
        "allocated": memory and memory.allocated,
        "error": cost.error,
        "refusal": cost.timing.refusal,
    }


#: The quantity of a panel, the unit of its axis, and how its ticks are written.
PANELS: dict[str, tuple[Callable[[Cost], Any], str, Formatter]] = {
    "Peak memory": (lambda cost: cost.peak, "bytes", BYTES),
    "Time": (lambda cost: cost.timing.median, "seconds", SECONDS),
    "Gradient error": (lambda cost: cost.error, "relative error", POWERS),
}


@styled
def cost_against_steps(costs: Costs, beside: str) -> Figure:
    """Peak memory, time and gradient error of every backend against K, side by side."""
    drawn = {SHORT.get(name, name): found for (name, _), found in series(costs, "steps").items()}
    styles = dict(zip(drawn, looks(), strict=False))
    extra = series(costs, "optimizers").get(("ift", beside))
    if extra is not None:
        other = f"ift, {SHORT.get(beside, beside)}"
        drawn[other] = extra
        styles = dict(zip(drawn, looks(), strict=False))
        styles[other] |= {"color": INK, "linestyle": "-"}
    figure = Figure(figsize=(1.5 * WIDTH, HEIGHT), layout="constrained")
    for axes, title in zip(figure.subplots(1, 3, sharex=True), PANELS, strict=True):
        of, unit, formatter = PANELS[title]
        lines = [
            Line(name, [v.K for v, _ in found], [of(cost) for _, cost in found], styles[name])
            for name, found in drawn.items()
        ]
        log_panel(axes, lines, formatter=formatter, title=title, xlabel="inner steps K")
        axes.set_ylabel(unit)
        label_lines(axes, lines, height=0.75 * HEIGHT)
    return figure


@styled
def growth(costs: Costs) -> Figure:
    """Time and peak memory of ``ift`` and ``stop`` against B and against d."""
    figure = Figure(figsize=(1.5 * WIDTH, 1.6 * HEIGHT), layout="constrained")
    cells = figure.subplots(2, 2)
    sizes_of = {"batch": ("B", "examples B"), "latent_dim": ("d", "latent dimensions d")}
    for row, (part, (size, xlabel)) in zip(cells, sizes_of.items(), strict=True):
        for axes, title in zip(row, ("Time", "Peak memory"), strict=True):
            of, unit, formatter = PANELS[title]
            lines = []
            for (pair, found), look in zip(series(costs, part).items(), looks(), strict=False):
                x = [getattr(variant, size) for variant, _ in found]
                y = [of(cost) for _, cost in found]
                name = f"{pair[0]}, {SHORT.get(pair[1], pair[1])}"
                lines.append(Line(f"{name}: {size}$^{{{exponent(x, y):.2f}}}$", x, y, look))
            log_panel(axes, lines, formatter=formatter, title=title, xlabel=xlabel)
            axes.set_ylabel(unit)
            label_lines(axes, lines, height=0.6 * HEIGHT)
    return figure
