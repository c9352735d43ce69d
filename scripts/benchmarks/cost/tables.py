"""The tables of the benchmark."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from benchmarks.cost.growth import Costs, exponent, linear, series
from benchmarks.cost.measure import Cost
from benchmarks.cost.variants import Variant
from benchmarks.table import benchmark_table
from benchmarks.target import Target

#: What ``ift`` may take at the largest K in units of ``stop``.
MOST_TIME = 1.15
#: What ``ift`` may hold at the largest long K in units of the smallest.
MOST_MEMORY = 1.05
STEP = "An outer step: the solve, the outer loss at its end and the backward to all weights."

Lines = Mapping[tuple[str, str], list[tuple[Variant, Cost]]]


def time_target(costs: Costs) -> Target:
    """Seconds of ``ift`` over those of ``stop`` at the largest K."""
    ours = {backend: found[-1][1] for (backend, _), found in series(costs, "steps").items()}
    return Target(ours["ift"].timing.over(ours["stop"].timing), "stop", MOST_TIME)


def memory_target(costs: Costs, name: str) -> Target:
    """Peak memory of a backend at the largest long K over that at the smallest."""
    (first, few), *_, (_, many) = next(
        found for (backend, _), found in series(costs, "long").items() if backend == name
    )
    assert few.memory is not None
    assert many.memory is not None
    return Target(many.memory.peak / few.memory.peak, f"K = {first.K}", MOST_MEMORY)


def backend_tables(costs: Costs) -> list[Table]:
    """Seconds, peak memory and gradient error of every backend at each K."""
    lines = series(costs, "steps")
    return [
        _against_steps(
            "Seconds of an outer step with K momentum steps",
            f"{STEP} Medians; the target is one of the largest K.",
            lines,
            _seconds,
            {"ift": time_target(costs)},
        ),
        _against_steps(
            "Peak memory of an outer step with K momentum steps",
            "The most bytes that were held at any time beyond weights and data.",
            lines,
            _peak,
        ),
        _against_steps(
            "Relative error of its gradient",
            "Against the gradient at the exact inner solution, in double precision.",
            lines,
            _error,
        ),
    ]


def long_table(costs: Costs) -> Table:
    """The backends whose memory is said to be flat, at few and at many steps."""
    lines = series(costs, "long")
    return _against_steps(
        "Peak memory at few and at many momentum steps",
        "The targets are ones of the largest K.",
        lines,
        _peak,
        {backend: memory_target(costs, backend) for backend, _ in lines},
    )


def optimizer_table(costs: Costs) -> Table:
    """Every other inner optimiser with ``ift`` and ``stop``: seconds and gradient error."""
    refusals = {
        variant.optimizer: cost.timing.refusal
        for variant, cost in costs.items()
        if variant.part == "optimizers" and cost.timing.refusal is not None
    }
    left_out = "".join(f"{name} left out: {why}\n" for name, why in refusals.items())
    lines = series(costs, "optimizers")
    table = benchmark_table(
        "Other inner optimisers: seconds / relative gradient error at K steps",
        f"{left_out}Optimisers with their defaults; gd with the step size of momentum.",
    )
    table.add_column("Optimiser, backend", no_wrap=True)
    for variant, _ in next(iter(lines.values())):
        table.add_column(f"K = {variant.K}", justify="right", no_wrap=True)
    for (backend, optimizer), found in sorted(lines.items(), key=lambda item: item[0][::-1]):
        cells = (f"{_seconds(cost)} / {_error(cost)}" for _, cost in found)
        table.add_row(f"{optimizer}, {backend}", *cells)
    return table


def growth_table(costs: Costs) -> Table:
    """The exponents p of cost = C size^p, and what is asked of those in B."""
    steps = next(variant.K for variant in costs if variant.part == "batch")
    table = benchmark_table(
        f"Growth of an outer step: p of cost ∝ size^p (B and d at K = {steps})",
        "Least squares of the logarithms. Targets: the seconds at the largest size, in units of "
        "linear growth from the smallest.",
    )
    for heading in ("Against", "Backend, optimiser"):
        table.add_column(heading, no_wrap=True)
    for heading in ("p of seconds", "p of peak"):
        table.add_column(heading, justify="right")
    table.add_column("Seconds, target")
    for part, field in (("steps", "K"), ("batch", "B"), ("latent_dim", "d")):
        for (backend, optimizer), found in series(costs, part).items():
            if backend not in ("ift", "stop"):
                continue
            sizes = [getattr(variant, field) for variant, _ in found]
            seconds = [cost.timing.median for _, cost in found]
            peaks = [float(cost.memory.peak) for _, cost in found if cost.memory]
            slopes = (f"{exponent(sizes, values):.2f}" for values in (seconds, peaks))
            target = "" if field == "d" else str(linear(sizes, seconds))
            table.add_row(field, f"{backend}, {optimizer}", *slopes, Text(target))
    return table


def _against_steps(
    title: str,
    caption: str,
    lines: Lines,
    cell: Callable[[Cost], str],
    targets: Mapping[str, Target] | None = None,
) -> Table:
    table = benchmark_table(title, caption)
    table.add_column("Backend", no_wrap=True)
    for variant, _ in next(iter(lines.values())):
        table.add_column(f"K = {variant.K:,}", justify="right", no_wrap=True)
    if targets:
        table.add_column("Target")
    for (backend, _), found in lines.items():
        cells = [Text(cell(cost)) for _, cost in found]
        told = [Text(str(targets.get(backend, "")))] if targets else []
        table.add_row(backend, *cells, *told)
    return table


def _seconds(cost: Cost) -> str:
    return f"{cost.timing.median:.3f}"


def _peak(cost: Cost) -> str:
    return "" if cost.memory is None else decimal(cost.memory.peak)


def _error(cost: Cost) -> str:
    return "" if cost.error is None else f"{cost.error:.1e}"
