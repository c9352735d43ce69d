"""The benchmark ``qp``: the seconds of a batch of quadratic programs, forward and backward."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from rich.table import Table
from torch import Tensor

from benchmarks.harness import Config, SharedConfig, benchmark, check_rising, table, write_csv
from benchmarks.progress import Progress, quiet
from benchmarks.timing import Timing, interleaved
from savi.implicit.qp import QPLayer
from savi.settings import setting

OURS, PEER = "savi", "qpth"
#: What is added to the eigenvalues of Q.
CURVATURE = 0.1
#: More than any example needs; qpth stops a whole batch at once.
MAX_STEPS = 60


@dataclass
class QPConfig(SharedConfig):
    """The numbers of variables, the tolerance of both solvers, and how often each is timed."""

    batch: int = setting(128, at_least=1)
    sizes: list[int] = field(default_factory=list)
    tolerance: float = 1e-10
    repetitions: int = setting(5, at_least=1)


class Programs(NamedTuple):
    """minimise ½xᵀQx + qᵀx subject to Ax = b, Gx <= h; A and b are None without equalities."""

    Q: Float[Tensor, "B n n"]
    q: Float[Tensor, "B n"]
    A: Float[Tensor, "B m n"] | None
    b: Float[Tensor, "B m"] | None
    G: Float[Tensor, "B p n"]
    h: Float[Tensor, "B p"]

    @property
    def parameters(self) -> list[Tensor]:
        """Those that are there."""
        return [parameter for parameter in self if parameter is not None]


def random_programs(batch: int, variables: int, equalities: int, seed: int) -> Programs:
    """Dense strictly convex programs with as many inequalities as variables, all feasible.

    Q = LLᵀ/n + 0.1 I; q, A, G and a point x₀ are normal, b = Ax₀, and h = Gx₀ + uniform slack, so
    that about half of the inequalities hold x back.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, dtype=torch.float64, generator=generator)

    n, m = variables, equalities
    L, q, A, G, inside = normal(n, n), normal(n), normal(m, n), normal(n, n), normal(n, 1)
    Q = L @ L.mT / n + CURVATURE * torch.eye(n, dtype=torch.float64)
    slack = torch.rand(batch, n, dtype=torch.float64, generator=generator)
    h = (G @ inside).squeeze(-1) + slack
    b = (A @ inside).squeeze(-1)
    programs = Programs(Q, q, A if m else None, b if m else None, G, h)
    for parameter in programs.parameters:
        parameter.requires_grad_()
    return programs


class Answer(NamedTuple):
    """What a solver found."""

    value: Float[Tensor, "B n"]  # x
    gradients: tuple[Tensor, ...]  # of ½‖x‖², summed over the batch, in every parameter
    steps: Tensor | None = None  # of each example, or None where the solver does not say

    @classmethod
    def of(cls, value: Tensor, programs: Programs, steps: Tensor | None = None) -> Answer:
        """The solution, sent backwards."""
        loss = 0.5 * value.square().sum()
        return cls(value.detach(), torch.autograd.grad(loss, programs.parameters), steps)

    def difference(self, other: Answer) -> tuple[float, float]:
        """The largest difference of the values and of the gradients, relative to the largest."""
        ours, theirs = (
            torch.cat([gradient.flatten() for gradient in answer.gradients])
            for answer in (self, other)
        )
        return _relative(self.value, other.value), _relative(ours, theirs)


def _relative(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


Solver = Callable[[Programs], Answer]
Answers, Timings = Mapping[str, Answer], Mapping[str, Timing]


def solvers(tolerance: float) -> dict[str, Solver]:
    """By name, forward and backward of one batch; qpth is left out where it is not installed."""
    layer = QPLayer(tolerance=tolerance, max_steps=MAX_STEPS)

    def ours(programs: Programs) -> Answer:
        solution = layer(*programs)
        return Answer.of(solution.value, programs, solution.steps)

    with warnings.catch_warnings():
        # Its modules hold strings with invalid escapes.
        warnings.simplefilter("ignore")
        try:
            from qpth.qp import QPFunction
        except ImportError:
            return {OURS: ours}
    function = QPFunction(eps=tolerance, verbose=-1, maxIter=MAX_STEPS)

    def peer(programs: Programs) -> Answer:
        Q, q, A, b, G, h = programs
        none = torch.empty(0, dtype=Q.dtype)
        value = function(Q, q, G, h, none if A is None else A, none if b is None else b)
        return Answer.of(value, programs)

    return {OURS: ours, PEER: peer}


@benchmark("qp", QPConfig)
def run_qp(config: Config, folder: Path) -> list[Table]:
    """Time forward and backward of a batch here and in qpth; interleaved, and medians.

    Writes ``qp.csv``, a line for each size, solver and repetition. Returns the times, their ratio,
    the differences and the steps.
    """
    wanted = "rising numbers from 2 on, such as [10,50]"
    check_rising("sizes", config["sizes"], wanted, least=2, count=1)
    sizes = [(n, m) for n in config["sizes"] for m in (0, n // 2)]
    systems = solvers(config["tolerance"])
    rows, cells = [], []
    with Progress((1 + config["repetitions"]) * len(sizes) * len(systems)) as progress, quiet():
        for n, m in sizes:
            programs = random_programs(config["batch"], n, m, config["seed"])
            answers = {name: solve(programs) for name, solve in systems.items()}
            calls = {name: partial(solve, programs) for name, solve in systems.items()}
            timings = interleaved(calls, config["repetitions"], progress.advance)
            rows += _rows(n, m, answers, timings)
            cells.append(_cells(n, m, answers, timings))
        progress.say(f"batches of {config['batch']}, threads: {torch.get_num_threads()}")
    write_csv(folder / "qp.csv", rows)
    sizes_of = ["Variables", "Inequalities", "Equalities"]
    return [
        table(
            f"Quadratic programs, batches of {config['batch']}, forward and backward",
            f"Residuals of {config['tolerance']:g} in both. Medians; the ratio is the median of "
            "those within a round, below 1 where savi is faster. Differences of solutions and "
            "gradients are the largest in the batch, relative to the largest entry. Without qpth "
            "its columns are empty.",
            cells,
            left=[],
            right=[*sizes_of, OURS, PEER, "Ratio", "Δ value", "Δ gradient", "Steps", "at most"],
        )
    ]


def _cells(n: int, m: int, answers: Answers, timings: Timings) -> list[object]:
    ours, compared = timings[OURS], ["–"] * 4
    if PEER in timings:
        differences = (f"{value:.0e}" for value in answers[OURS].difference(answers[PEER]))
        peer = timings[PEER]
        compared = [f"{1e3 * peer.median:.1f} ms", f"{ours.over(peer):.2f}", *differences]
    mean, most = _steps(answers)
    return [n, n, m, f"{1e3 * ours.median:.1f} ms", *compared, f"{mean:.1f}", most]


def _rows(n: int, m: int, answers: Answers, timings: Timings) -> Iterator[dict[str, Any]]:
    differences = answers[OURS].difference(answers[PEER]) if PEER in answers else ("", "")
    names = ("value_difference", "gradient_difference")
    for solver, timing in timings.items():
        for repetition, seconds in enumerate(timing.seconds):
            yield {
                "variables": n, "inequalities": n, "equalities": m, "solver": solver,
                "repetition": repetition, "seconds": seconds,
                "mean_steps": _steps(answers)[0] if solver == OURS else "",
            } | dict(zip(names, differences, strict=True))  # fmt: skip


def _steps(answers: Answers) -> tuple[float, int]:
    """The mean and the largest number of steps here."""
    steps = answers[OURS].steps
    assert steps is not None
    return float(steps.double().mean()), int(steps.max())
