"""The benchmark ``memory``: the memory of every backend against the number of inner steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from benchmarks.decoder import decoder_batch, descent
from benchmarks.files import write_csv
from benchmarks.memory.figure import peak_against_steps
from benchmarks.memory.measure import Usage, measure
from benchmarks.memory.targets import (
    SQRT,
    STEP,
    peak_target,
    require_comparable,
    saved_target,
)
from benchmarks.progress import Progress
from benchmarks.registry import BENCHMARKS
from benchmarks.table import benchmark_table
from benchmarks.target import Target
from savi.gradients import BACKENDS, Checkpointed, GradientBackend
from savi.report.figures.style import save

Usages = Mapping[str, Sequence[Usage]]

COUNTED = (
    "An outer step is a solve, the outer loss at λK and the backward in θ and λ0. Weights, data "
    "and λ0 were there before and do not count."
)
PEAK = (
    "The most bytes that tensors held at any time, the gradients of the weights among them; the "
    "seconds are those of one outer step with the largest K. The peak of reversible is compared "
    "with the second K, because with one inner step there are no gradients of another one alive, "
    "to which those of the step are added; less log2(1/momentum) bits per scalar and step."
)
SAVED = (
    "What the graph keeps for the backward, each storage once. Iterates that a backend keeps "
    "outside of the graph (checkpointed, finite_difference) count in the peak alone."
)


@BENCHMARKS.register("memory")
def run_memory(config: Mapping[str, Any], folder: Path) -> list[Table]:
    """Count the bytes of an outer step for every backend and number K of inner steps.

    Writes ``memory.csv``, a line for each backend and K, and ``memory.png``.

    Args:
        config: see :func:`benchmarks.decoder.decoder_batch`; ``steps``, the numbers K;
            ``lr`` and ``momentum`` of the inner descent.
        folder: where the files go.

    Returns:
        The peaks, and the bytes saved for the backward, with their targets.

    Raises:
        InputError: for values out of range.
    """
    steps: list[int] = config["steps"]
    require_comparable(steps)
    optimizer, batch, backends = descent(config), decoder_batch(config), variants()
    usages: dict[str, list[Usage]] = {}
    with Progress(len(backends) * len(steps)) as progress:
        for name, backend in backends.items():
            usages[name] = []
            for count in steps:
                usages[name].append(measure(batch, backend, optimizer, count))
                progress.advance(f"{name}, K = {count}")
            progress.say(name)
    write_csv(
        folder / "memory.csv",
        [{"backend": name} | asdict(usage) for name in usages for usage in usages[name]],
    )
    save(peak_against_steps(usages), folder / "memory.png")
    lost_bits = math.log2(1.0 / optimizer.momentum) * batch.init.numel()
    return [_peaks(usages, lost_bits), _saved(usages)]


def variants() -> dict[str, GradientBackend]:
    """Every backend with its defaults, and ``checkpointed`` in two forms."""
    backends: dict[str, GradientBackend] = {
        name: cls() for name, cls in BACKENDS.items() if name != "checkpointed"
    }
    return backends | {SQRT: Checkpointed("sqrt"), STEP: Checkpointed("step")}


def _peaks(usages: Usages, lost_bits: float) -> Table:
    table = _table("Peak of live bytes in an outer step with K inner steps", PEAK, usages)
    table.add_column("Seconds", justify="right")
    table.add_column("Ratio at the largest K, target")
    for name in sorted(usages, key=lambda name: usages[name][-1].peak):
        peaks = (decimal(usage.peak) for usage in usages[name])
        target = peak_target(name, usages, lost_bits)
        table.add_row(name, *peaks, f"{usages[name][-1].seconds:.2f}", _cell(target))
    return table


def _saved(usages: Usages) -> Table:
    table = _table("Bytes saved for the backward", f"{SAVED} {COUNTED}", usages)
    table.add_column("Ratio at the largest K, target")
    for name in sorted(usages, key=lambda name: usages[name][-1].saved):
        saved = (decimal(usage.saved) for usage in usages[name])
        table.add_row(name, *saved, _cell(saved_target(name, usages[name])))
    return table


def _table(title: str, caption: str, usages: Usages) -> Table:
    table = benchmark_table(title, caption)
    table.add_column("Backend", no_wrap=True)
    for usage in next(iter(usages.values())):
        table.add_column(f"K = {usage.steps}", justify="right", no_wrap=True)
    return table


def _cell(target: Target | None) -> Text:
    return Text("" if target is None else str(target))
