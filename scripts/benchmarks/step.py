"""The benchmark ``step``: the seconds of an outer step, and what they are spent on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch
from rich.table import Table

from benchmarks.decoder import DecoderProblem, StepsConfig, decoder_problem, descent
from benchmarks.harness import Config, Target, benchmark, check_rising, table, write_csv
from benchmarks.outer_step import OuterStep
from benchmarks.progress import Progress, quiet
from benchmarks.timing import Timing, empty_compiler_cache, interleaved
from savi.gradients import BACKENDS, Implicit, StopGradient
from savi.inner import LevenbergMarquardt
from savi.linear.base import LinearSolution, LinearSolver, SymmetricOperator
from savi.settings import setting
from savi.types import Rows

#: The backends that are compiled; the code of the first serves the second too.
COMPILED = ("ift", "unrolled")
UNCERTIFIED = "ift without certificate"
#: The part of a step that its certificate may take.
MOST = 0.10
MEDIANS = "Medians; ratios are medians of the ratios within a round."


@dataclass
class StepConfig(StepsConfig):
    """The decoder, the inner descents, and how often each outer step is timed."""

    batch: int = setting(128, at_least=1)
    latent_dim: int = setting(16, at_least=1)
    hidden: int = setting(500, at_least=1)
    data_dim: int = setting(784, at_least=1)
    lr: float = 0.2
    momentum: float = 0.5
    newton_steps: int = setting(5, at_least=1)
    rho: float = setting(1.0, above=0, below=float("inf"))
    compile: bool = True
    repetitions: int = setting(15, at_least=1)


class Variant(NamedTuple):
    """One way to take an outer step."""

    part: str  # of the benchmark: ``backends``, ``certificate`` or ``compile``
    name: str  # the backend
    steps: int  # K


Timings = Mapping[Variant, Timing]


@benchmark("step", StepConfig)
def run_step(config: Config, folder: Path) -> list[Table]:
    """Time an outer step, forward and backward, for every backend; interleaved, and medians.

    ``steps`` are the numbers K of momentum descent, ``newton_steps`` those of Levenberg–Marquardt
    on the proximal objective with ``rho``. Writes ``step.csv``, a line for each variant and
    repetition; repetition 0 is the first call, which compiles what is to be compiled. Returns the
    times of the backends, the cost of the certificate, and the gain of ``torch.compile``.
    """
    check_rising("steps", config["steps"], "rising numbers from 1 on, such as [5,20]",
                 least=1, count=1)  # fmt: skip
    calls, repetitions = variants(decoder_problem(config), config), config["repetitions"]
    with Progress((1 + repetitions) * len(calls)) as progress:

        def advance(variant: Variant) -> None:
            progress.advance(f"{variant.part}: {variant.name}, K = {variant.steps}")

        with quiet(), empty_compiler_cache():
            timings = interleaved(calls, repetitions, advance)
        threads = torch.get_num_threads()
        progress.say(f"{len(calls)} variants, {repetitions} repetitions, threads: {threads}")
    rows = [
        variant._asdict() | {"repetition": repetition, "seconds": seconds}
        for variant, timing in timings.items()
        for repetition, seconds in enumerate([timing.first, *timing.seconds])
    ]
    write_csv(folder / "step.csv", rows)
    tables = [backend_table(timings), certificate_table(timings)]
    return [*tables, compile_table(timings)] if config["compile"] else tables


def variants(problem: DecoderProblem, config: Config) -> dict[Variant, OuterStep[DecoderProblem]]:
    """Every variant, as a function that takes the step: its forward and its backward."""
    momentum, last = descent(config), config["steps"][-1]
    backends = {name: cls() for name, cls in BACKENDS.items()}
    calls = {
        Variant("backends", name, K): OuterStep(problem, backend, momentum, K)
        for K in config["steps"]
        for name, backend in backends.items()
    }
    if config["compile"]:
        for name in COMPILED:
            compiled = OuterStep(problem, backends[name], momentum, last, compile=True)
            calls[Variant("compile", name, last)] = compiled
    steps, proximal = config["newton_steps"], replace(problem, rho=config["rho"])
    bare = Implicit(solver=UnjudgedCholesky(), certify=False)
    for name, backend in {"stop": StopGradient(), UNCERTIFIED: bare, "ift": Implicit()}.items():
        step = OuterStep(proximal, backend, LevenbergMarquardt(), steps, rtol=1e-3)
        calls[Variant("certificate", name, steps)] = step
    return calls


@dataclass(frozen=True)
class UnjudgedCholesky(LinearSolver):
    """H = L Lᵀ, u = L⁻ᵀ L⁻¹ v, with no residual, no status and no smallest eigenvalue."""

    name: ClassVar[str] = "cholesky"

    def solve(self, operator: SymmetricOperator, rhs: Rows) -> LinearSolution:
        """Factorise all blocks at once, whatever they are."""
        factor, info = torch.linalg.cholesky_ex(operator.dense())
        u = torch.cholesky_solve(rhs.unsqueeze(-1), factor).squeeze(-1)
        unknown = torch.full_like(rhs[:, 0], torch.nan)
        return LinearSolution(u, unknown, torch.zeros_like(info), torch.zeros_like(info), unknown)


def backend_table(timings: Timings) -> Table:
    """Seconds of each backend at each K, and how many times those of ``stop`` they are."""
    ours = {v: timing for v, timing in timings.items() if v.part == "backends"}
    counts = list(dict.fromkeys(v.steps for v in ours))
    by_name = {
        name: [ours[Variant("backends", name, K)] for K in counts]
        for name in dict.fromkeys(v.name for v in ours)
    }
    rows = [
        [name, *(cell for t, stop in zip(found, by_name["stop"], strict=True)
                 for cell in (f"{t.median:.3f}", f"{t.over(stop):.2f}"))]
        for name, found in sorted(by_name.items(), key=lambda item: item[1][-1].median)
    ]  # fmt: skip
    headings = [heading for K in counts for heading in (f"K = {K}", "× stop")]
    title = "Seconds of an outer step, K momentum steps"
    return table(title, MEDIANS, rows, left=["Backend"], right=headings)


def certificate_table(timings: Timings) -> Table:
    """The default form of ``ift`` with its certificate and without it."""
    ours = {v: timing for v, timing in timings.items() if v.part == "certificate"}
    (stop, steps), = ((t, v.steps) for v, t in ours.items() if v.name == "stop")  # fmt: skip
    rows = [
        [v.name, f"{timing.median:.3f}", f"{timing.over(stop):.2f}",
         certificate_share(timings) if v.name == "ift" else ""]
        for v, timing in ours.items()
    ]  # fmt: skip
    return table(
        f"The certificate of ift, K = {steps}",
        "Levenberg–Marquardt, proximal objective, cholesky, as in experiment=savi_ift, and no "
        "encoder. The work of a certificate: a probe of two gradients, a Newton step, the smallest "
        f"eigenvalue, the residual, the judgement, the search for kinks. {MEDIANS}",
        rows,
        left=["Backend"],
        right=["Seconds", "× stop"],
        last=["The certificate, target"],
    )


def certificate_share(timings: Timings) -> Target:
    """The part of an outer step with ``ift`` that the certificate takes."""
    ours = {v.name: timing for v, timing in timings.items() if v.part == "certificate"}
    return Target(1.0 - ours[UNCERTIFIED].over(ours["ift"]), "the step", MOST)


def compile_table(timings: Timings) -> Table:
    """Seconds with and without ``torch.compile``, or why there are none."""
    ours = {v: timing for v, timing in timings.items() if v.part == "compile"}
    refused = "".join(f"{v.name} not compiled: {t.refusal}\n" for v, t in ours.items() if t.refusal)
    rows = []
    for variant, compiled in ours.items():
        plain = timings[Variant("backends", variant.name, variant.steps)]
        cells = ["–", "–", "–"]
        if compiled.refusal is None:
            gain = f"{plain.over(compiled):.2f} ×"
            cells = [f"{compiled.median:.3f}", gain, f"{compiled.first:.1f} s"]
        rows.append([variant.name, variant.steps, f"{plain.median:.3f}", *cells])
    return table(
        "torch.compile of the inner gradient",
        f"{refused}K momentum steps. The first call compiles, without torch's cache; code compiled "
        f"for a row above is used again. {MEDIANS}",
        rows,
        left=["Backend"],
        right=["K", "Seconds", "compiled", "Gain", "First call"],
    )
