"""The tables of the benchmark."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from benchmarks.step.timing import Timing
from benchmarks.step.variants import UNCERTIFIED, Variant
from benchmarks.table import benchmark_table
from benchmarks.target import Target

#: The part of a step that its certificate may take.
MOST = 0.10

MEDIANS = "Medians; ratios are medians of the ratios within a round."

Timings = Mapping[Variant, Timing]


def backend_table(timings: Timings) -> Table:
    """Seconds of each backend at each K, and how many times those of ``stop`` they are."""
    ours = {v: timing for v, timing in timings.items() if v.part == "backends"}
    counts = list(dict.fromkeys(v.steps for v in ours))
    table = benchmark_table("Seconds of an outer step, K momentum steps", MEDIANS)
    table.add_column("Backend")
    for steps in counts:
        table.add_column(f"K = {steps}", justify="right")
        table.add_column("× stop", justify="right")
    last = counts[-1]
    names = sorted({v.name for v in ours}, key=lambda n: ours[Variant("backends", n, last)].median)
    for name in names:
        cells = []
        for steps in counts:
            timing = ours[Variant("backends", name, steps)]
            stop = ours[Variant("backends", "stop", steps)]
            cells += [f"{timing.median:.3f}", f"{timing.over(stop):.2f}"]
        table.add_row(name, *cells)
    return table


def certificate_table(timings: Timings) -> Table:
    """The default form of ``ift`` with its certificate and without it."""
    ours = {v.name: (v.steps, timing) for v, timing in timings.items() if v.part == "certificate"}
    steps, stop = ours["stop"]
    table = benchmark_table(
        f"The certificate of ift, K = {steps}",
        "Levenberg–Marquardt, proximal objective, cholesky, as in experiment=savi_ift, and no "
        "encoder. The work of a certificate: a probe of two gradients, a Newton step, the smallest "
        f"eigenvalue, the residual, the judgement, the search for kinks. {MEDIANS}",
    )
    table.add_column("Backend")
    table.add_column("Seconds", justify="right")
    table.add_column("× stop", justify="right")
    table.add_column("The certificate, target")
    for name, (_, timing) in ours.items():
        share = str(certificate_share(timings)) if name == "ift" else ""
        table.add_row(name, f"{timing.median:.3f}", f"{timing.over(stop):.2f}", Text(share))
    return table


def certificate_share(timings: Timings) -> Target:
    """The part of an outer step with ``ift`` that the certificate takes."""
    ours = {v.name: timing for v, timing in timings.items() if v.part == "certificate"}
    return Target(1.0 - ours[UNCERTIFIED].over(ours["ift"]), "the step", MOST)


def compile_table(timings: Timings) -> Table:
    """Seconds with and without ``torch.compile``, or why there are none."""
    ours = {v: timing for v, timing in timings.items() if v.part == "compile"}
    refused = "".join(f"{v.name} not compiled: {t.refusal}\n" for v, t in ours.items() if t.refusal)
    table = benchmark_table(
        "torch.compile of the inner gradient",
        f"{refused}K momentum steps. The first call compiles, without torch's cache; code compiled "
        f"for a row above is used again. {MEDIANS}",
    )
    table.add_column("Backend")
    for heading in ("K", "Seconds", "compiled", "Gain", "First call"):
        table.add_column(heading, justify="right")
    for variant, compiled in ours.items():
        plain = timings[Variant("backends", variant.name, variant.steps)]
        cells = ["–", "–", "–"]
        if compiled.refusal is None:
            gain = f"{plain.over(compiled):.2f} ×"
            cells = [f"{compiled.median:.3f}", gain, f"{compiled.first:.1f} s"]
        table.add_row(variant.name, str(variant.steps), f"{plain.median:.3f}", *cells)
    return table
