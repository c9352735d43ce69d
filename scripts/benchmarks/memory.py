"""The benchmark ``memory``: the memory of every backend against the number of inner steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from rich.filesize import decimal
from rich.table import Table

from benchmarks.decoder import StepsConfig, decoder_problem, descent
from benchmarks.harness import Config, Target, benchmark, check_rising, table, write_csv
from benchmarks.lines import BYTES, Line, log_panel, looks
from benchmarks.outer_step import FLAT, SQRT, Usage, against_steps, all_backends, usages
from benchmarks.progress import Progress
from savi.errors import InputError
from savi.report.figures.style import WIDTH, save, styled

TOLERANCE = 0.05
#: The most that ``checkpointed every=sqrt`` may take in √K unrolled steps.
MOST = 2.0
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

Usages = Mapping[str, Sequence[Usage]]


@dataclass
class MemoryConfig(StepsConfig):
    """The decoder, the numbers of inner steps, and their descent."""

    lr: float = 1e-3
    momentum: float = 0.9


@benchmark("memory", MemoryConfig)
def run_memory(config: Config, folder: Path) -> list[Table]:
    """Count the bytes of an outer step for every backend and number K of inner ``steps``.

    Writes ``memory.csv``, a line for each backend and K, and ``memory.png``. Returns the peaks, and
    the bytes saved for the backward, with their targets.
    """
    steps: list[int] = config["steps"]
    check_comparable(steps)
    optimizer, problem, backends = descent(config), decoder_problem(config), all_backends()
    found: dict[str, list[Usage]] = {}
    with Progress(2 * len(backends) * len(steps)) as progress:
        for name, backend in backends.items():
            costs = against_steps(problem, {name: backend}, optimizer, steps, 0, progress)[name]
            for cost in costs:
                cost.timing.seconds.append(cost.timing.first)
            found[name] = usages(steps, costs)
            progress.say(name)
    rows = [{"backend": name} | usage._asdict() for name in found for usage in found[name]]
    write_csv(folder / "memory.csv", rows)
    save(peak_against_steps(found), folder / "memory.png")
    return _tables(found, math.log2(1.0 / optimizer.momentum) * problem.start.numel())


def check_comparable(steps: Sequence[int]) -> None:
    """Refuse numbers K that the targets cannot compare: at least three, rising from 1 on."""
    wanted = "at least three rising numbers from 1 on, such as [1,10,100]"
    check_rising("steps", steps, wanted, least=1, count=3)
    if steps[0] != 1:
        raise InputError(f"steps is {steps}: give {wanted}")


def flat(last: float, first: float, base: str) -> Target:
    """The target of memory that does not grow.

    It may fall: what few steps leave doubtful, the certificate of ``ift`` looks at once more.
    """
    return Target(last / first, base, 1.0 + TOLERANCE)


def saved_target(name: str, found: Sequence[Usage]) -> Target | None:
    """What is asked of the saved bytes of a backend; None for those without a target."""
    if name not in FLAT:
        return None
    return flat(found[-1].saved, found[0].saved, f"K = {found[0].steps}")


def peak_target(name: str, found: Usages, lost_bits: float) -> Target | None:
    """What is asked of the peak of a backend; None for those without a target.

    The second K is compared with: after one step nothing is solved, so that the certificate of
    ``ift`` looks at nothing closely, and ``reversible`` has no gradients of another step alive, to
    which those of the step are added.

    Args:
        name: the backend.
        found: by backend, in increasing order of K; the first K is 1.
        lost_bits: the bits that ``reversible`` keeps of every step, of all scalars together.
    """
    _, second, *_, last = found[name]
    if name in FLAT:
        return flat(last.peak, second.peak, f"K = {second.steps}")
    if name == "reversible":
        kept = lost_bits * (last.steps - second.steps) / 8.0
        ratio, base = (last.peak - kept) / second.peak, f"K = {second.steps} less bits"
        return Target(ratio, base, 1.0 + TOLERANCE, 1.0 - TOLERANCE)
    if name == SQRT:
        step = found["unrolled"][0].peak
        return Target(last.peak / (math.sqrt(last.steps) * step), "√K unrolled steps", MOST)
    return None


def _tables(found: Usages, lost_bits: float) -> list[Table]:
    counts = [f"K = {usage.steps}" for usage in next(iter(found.values()))]
    last = ["Ratio at the largest K, target"]
    peaks = [
        [name, *(decimal(usage.peak) for usage in found[name]), f"{found[name][-1].seconds:.2f}",
         peak_target(name, found, lost_bits)]
        for name in sorted(found, key=lambda name: found[name][-1].peak)
    ]  # fmt: skip
    saved = [
        [name, *(decimal(usage.saved) for usage in found[name]), saved_target(name, found[name])]
        for name in sorted(found, key=lambda name: found[name][-1].saved)
    ]
    heading, backend = "Peak of live bytes in an outer step with K inner steps", ["Backend"]
    return [
        table(heading, PEAK, peaks, left=backend, right=[*counts, "Seconds"], last=last),
        table("Bytes saved for the backward", f"{SAVED} {COUNTED}", saved, left=backend,
              right=counts, last=last),
    ]  # fmt: skip


@styled
def peak_against_steps(found: Usages) -> Figure:
    """The peak of live bytes of each backend against K; the legend in the order of their ends."""
    figure = Figure(figsize=(0.8 * WIDTH, 0.45 * WIDTH), layout="constrained")
    axes = figure.subplots()
    ordered = sorted(found, key=lambda name: -found[name][-1].peak)
    lines = [
        Line(name, [u.steps for u in found[name]], [u.peak for u in found[name]], look)
        for name, look in zip(ordered, looks((4, 8)), strict=False)
    ]
    title = "Memory of an outer step"
    log_panel(axes, lines, formatter=BYTES, title=title, xlabel="inner steps K")
    axes.set_ylabel("peak of live bytes")
    figure.legend(loc="outside right center", handlelength=3.0)
    return figure
