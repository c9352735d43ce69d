"""The benchmark ``unrolling``: differentiating K inner steps, or their solution, side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from rich.filesize import decimal
from rich.table import Table
from torch import Tensor
from torch.nn.functional import pad

from benchmarks.decoder import StepsConfig, decoder_problem
from benchmarks.harness import Config, Target, benchmark, table, write_csv
from benchmarks.lines import BYTES, POWERS, SECONDS, Line, log_panel
from benchmarks.memory import TOLERANCE, check_comparable, flat, peak_target
from benchmarks.outer_step import (
    SQRT,
    BilevelProblem,
    Cost,
    OuterStep,
    Usage,
    against_steps,
    exact_gradient,
    relative_error,
    stable_descent,
    usages,
)
from benchmarks.progress import Progress
from savi.errors import InputError
from savi.gradients import Checkpointed, GradientBackend, Implicit, Reversible, Unrolled
from savi.inner.objective import InnerObjective, as_objective
from savi.report.figures.style import BLUE, GREEN, INK, PURPLE, VERMILION, WIDTH, save, styled
from savi.settings import setting
from savi.types import PerExample, Rows, Scalar

SOFTMAX, VAE = "Softmax problem", "VAE's inner problem"
#: ``ift`` without the matrix H: by products with it alone, whose solve has a relative residual far
#: below what the figure shows.
CG, CG_RTOL = "ift solver=cg", 1e-12
LABELS = {
    SQRT: "checkpointed √K", "ift": "ift, Cholesky", CG: "ift, conjugate gradients",
}  # fmt: skip
#: Three backends have the same error: thick under thin, and hollow markers of three sizes.
LOOKS: dict[str, dict[str, Any]] = {
    "unrolled": {"color": BLUE, "marker": "o", "linewidth": 2.8, "markersize": 4},
    SQRT: {"color": VERMILION, "marker": "s", "linewidth": 1.4, "markersize": 6},
    "reversible": {"color": GREEN, "marker": "D", "linestyle": (0, (4, 3)), "markersize": 9},
    "ift": {"color": INK, "marker": "o", "linewidth": 2.2, "markersize": 5},
    CG: {"color": PURPLE, "marker": "^", "linestyle": (0, (1, 1.2)), "markersize": 7},
}
FILLED = ("unrolled", "ift")


@dataclass
class UnrollingConfig(StepsConfig):
    """The softmax problem's size, the decoder's, and the numbers of inner steps."""

    rows: int = setting(64, at_least=1)
    items: int = setting(100, at_least=2)
    spread: float = setting(0.8, above=0, below=float("inf"))
    batch: int = setting(16, at_least=1)
    latent_dim: int = setting(4, at_least=1)
    relative_lr: float = setting(1.0, above=0, below=float("inf"))
    momentum: float = 0.9
    repetitions: int = setting(2, at_least=1)


@dataclass(frozen=True)
class SoftmaxProblem:
    """max_x xᵀθ + H(x) over the simplex: softmax as an optimisation problem.

    It is solved in free log-coordinates, x(y) = softmax((y, 0)) with y ∈ R^{n−1}: the last logit
    is fixed at 0, because x does not change along 1 and the Hessian would be singular. The
    solution is y*_i = θ_i − θ_n, x* = softmax(θ). The outer loss is linear, L = (1/B) Σ_b wᵀx_b.

    J. Chiu, *Applications of the Implicit Function Theorem*, 2021, section 3.
    """

    theta: Float[Tensor, "B n"]  # θ; requires a gradient
    w: Float[Tensor, " n"]  # the weights of the outer loss
    start: Rows  # y0 = 0, where x is uniform

    def objective(self, max_steps: int = 0) -> InnerObjective:
        """J(y) = −(x(y)ᵀθ + H(x(y)))."""
        return as_objective(self._negative_value)

    def outer(self, y: Rows) -> Scalar:
        """L = (1/B) Σ_b wᵀx(y_b)."""
        return (pad(y, (0, 1)).softmax(dim=-1) @ self.w).mean()

    @property
    def weights(self) -> list[Tensor]:
        """θ."""
        return [self.theta]

    @property
    def given(self) -> list[Tensor]:
        """Every tensor that is there before the solve."""
        return [self.theta, self.w, self.start]

    def exact(self) -> tuple[Tensor, ...]:
        """∂L/∂θ_b = (1/B) (diag(x*) − x*x*ᵀ) w."""
        x = self.theta.detach().softmax(dim=-1)
        return (x * (self.w - (x @ self.w).unsqueeze(-1)) / len(x),)

    def _negative_value(self, y: Rows) -> PerExample:
        log_x = pad(y, (0, 1)).log_softmax(dim=-1)
        return (log_x.exp() * (log_x - self.theta)).sum(dim=-1)


def softmax_problem(config: Config) -> SoftmaxProblem:
    """θ uniform in ± ``spread``, and normal w.

    Below a spread of about 1 the problem is convex around the start, so that an implicit gradient
    means something from the first step on; with far larger ones it takes thousands of steps.
    """
    rows, items = config["rows"], config["items"]
    generator = torch.Generator().manual_seed(config["seed"])
    theta = torch.rand(rows, items, generator=generator, dtype=torch.float64)
    theta = (config["spread"] * (2.0 * theta - 1.0)).requires_grad_()
    w = torch.randn(items, generator=generator, dtype=torch.float64)
    return SoftmaxProblem(theta, w, torch.zeros(rows, items - 1, dtype=torch.float64))


@dataclass(frozen=True)
class Outcome:
    """What was measured of a problem."""

    costs: Mapping[str, Sequence[Cost]]  # of each backend, in increasing order of K
    steps: Sequence[int]  # the numbers K
    #: that all scalars of λ lose in a step of the descent; ``reversible`` keeps them.
    lost_bits: float

    def usages(self) -> dict[str, list[Usage]]:
        """Memory and seconds of each backend, in increasing order of K."""
        return {name: usages(self.steps, costs) for name, costs in self.costs.items()}


@benchmark("unrolling", UnrollingConfig)
def run_unrolling(config: Config, folder: Path) -> list[Table]:
    """Bytes, seconds and gradient error of an outer step against its number of inner ``steps``.

    Writes ``unrolling.csv``, a line for each problem, backend and K, and ``unrolling.png``. Returns
    a table for each problem.
    """
    check_comparable(config["steps"])
    if len(config["steps"]) < 4:
        raise InputError(f"steps is {config['steps']}: give at least four, such as [1,3,10,30]")
    softmax = softmax_problem(config)
    decoder = decoder_problem(config).with_other_noise(config)
    problems: dict[str, tuple[BilevelProblem, Callable[[], tuple[Tensor, ...]]]] = {
        SOFTMAX: (softmax, softmax.exact), VAE: (decoder, lambda: exact_gradient(decoder)),
    }  # fmt: skip
    parts = len(problems) * len(config["steps"]) * len(backends())
    outcomes = {}
    with Progress((2 + config["repetitions"]) * parts) as progress:
        for name, (problem, exact) in problems.items():
            outcomes[name] = outcome_of(problem, exact(), config, progress)
            progress.say(name)
    write_csv(folder / "unrolling.csv", _rows(outcomes))
    save(unrolling_figure(outcomes), folder / "unrolling.png")
    (rows, items), (examples, scalars) = softmax.theta.shape, decoder.start.shape
    vae_size = f"{examples} examples of {scalars} variational parameters"
    titles = {
        SOFTMAX: (f"{rows} rows of {items} items", "in closed form, (diag(x) − xxᵀ) w"),
        VAE: (vae_size, "the implicit gradient at the exact solution"),
    }
    return [
        outcome_table(f"{name}: {size}", error, outcomes[name])
        for name, (size, error) in titles.items()
    ]


def backends() -> dict[str, GradientBackend]:
    """The backends that are compared."""
    return {
        "unrolled": Unrolled(),
        SQRT: Checkpointed("sqrt"),
        "reversible": Reversible(),
        "ift": Implicit(),
        CG: Implicit(solver="cg", rtol=CG_RTOL),
    }


def outcome_of(
    problem: BilevelProblem, exact: tuple[Tensor, ...], config: Config, progress: Progress
) -> Outcome:
    """Measure every backend at every K.

    Raises:
        InputError: for a step size or a momentum out of range, or a descent that ends early.
    """
    optimizer, counts = stable_descent(problem, config), config["steps"]

    def error_of(step: OuterStep[BilevelProblem]) -> float:
        return relative_error(step.gradient(), exact)

    repetitions = config["repetitions"]
    costs = against_steps(problem, backends(), optimizer, counts, repetitions, progress, error_of)
    lost_bits = math.log2(1.0 / optimizer.momentum) * problem.start.numel()
    return Outcome(costs, counts, lost_bits)


def targets(outcome: Outcome) -> dict[str, Target]:
    """What is asked of the peaks: all of them as in the benchmark ``memory``, and two more.

    ``unrolled`` must grow linearly, ``ift`` with either solver not at all.
    """
    found = outcome.usages()
    asked = {name: peak_target(name, found, outcome.lost_bits) for name in found}
    _, second, *_, last = found[CG]
    asked["unrolled"] = linear(found["unrolled"])
    asked[CG] = flat(last.peak, second.peak, f"K = {second.steps}")
    return {name: target for name, target in asked.items() if target is not None}


def linear(found: Sequence[Usage]) -> Target:
    """The target of memory that grows by the same bytes at every step, from the second K on.

    With one step alone the peak lies elsewhere in the solve. ``found`` holds at least four.
    """
    _, second, *_, before, last = found
    late, early = (
        (b.peak - a.peak) / (b.steps - a.steps) for a, b in ((before, last), (second, before))
    )
    base = f"bytes per step up to K = {before.steps:,}"
    return Target(late / early, base, 1.0 + TOLERANCE, 1.0 - TOLERANCE)


def _rows(outcomes: Mapping[str, Outcome]) -> list[dict[str, Any]]:
    return [
        {"problem": problem, "backend": name, "K": u.steps, "saved": u.saved, "peak": u.peak,
         "seconds": u.seconds, "error": cost.error}
        for problem, outcome in outcomes.items()
        for name, found in outcome.usages().items()
        for u, cost in zip(found, outcome.costs[name], strict=True)
    ]  # fmt: skip


def outcome_table(title: str, error: str, outcome: Outcome) -> Table:
    """Peak, seconds and gradient error of every backend at each K; the targets below."""
    told = "\n".join(f"{name}: {target}" for name, target in targets(outcome).items())
    rows = []
    for name, costs in outcome.costs.items():
        rows += [
            [name, "peak", *(decimal(round(cost.peak)) for cost in costs)],
            ["", "time", *(f"{cost.timing.median:.4f}" for cost in costs)],
            ["", "error", *(f"{cost.error:.1e}" for cost in costs)],
        ]
    return table(
        title,
        "An outer step: the solve, the outer loss and its backward. Peak: the most bytes that "
        "tensors held at once beyond what was there before. Time: a median, in seconds. Error: "
        f"‖g − g*‖ / ‖g*‖, with g* {error}. Peak at the largest K:\n{told}",
        rows,
        left=["Backend", ""],
        right=[f"K = {K:,}" for K in outcome.steps],
        ends=lambda row: row % 3 == 2,
    )


@styled
def unrolling_figure(outcomes: Mapping[str, Outcome]) -> Figure:
    """Peak memory, time and gradient error against K: a row for each problem."""
    figure = Figure(figsize=(WIDTH, 0.64 * WIDTH), layout="constrained")
    cells = figure.subplots(len(outcomes), 3, sharex=True, squeeze=False)
    panels = {
        "peak memory": (lambda cost: cost.peak, BYTES),
        "time": (lambda cost: cost.timing.median, SECONDS),
        "gradient error": (lambda cost: cost.error, POWERS),
    }
    for row, (problem, outcome) in zip(cells, outcomes.items(), strict=True):
        for axes, (title, (of, formatter)) in zip(row, panels.items(), strict=True):
            lines = [
                Line(LABELS.get(name, name), outcome.steps, [of(cost) for cost in costs],
                     LOOKS[name] | ({} if name in FILLED else {"markerfacecolor": "none"}))
                for name, costs in outcome.costs.items()
            ]  # fmt: skip
            log_panel(axes, lines, formatter=formatter, title=f"{problem}: {title}",
                      xlabel="inner steps K")  # fmt: skip
    for axes in cells[:-1].flat:
        axes.set_xlabel("")
    handles, labels = cells[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), handlelength=3.0)
    return figure
