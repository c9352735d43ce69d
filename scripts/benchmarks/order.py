"""The benchmark ``order``: the order of every backend's gradient error in the stationarity."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from rich.table import Table
from torch import Tensor

from benchmarks.decoder import DecoderConfig, DecoderProblem, decoder_problem
from benchmarks.harness import Config, benchmark, check_not_empty, table, write_csv
from benchmarks.lines import Line
from benchmarks.progress import Progress, quiet
from benchmarks.reference import Energy, hessian, minimiser
from benchmarks.trained import trained_problem
from savi._minimize import minimize
from savi.errors import InputError
from savi.gradients import BACKENDS, GradientBackend, StopGradient
from savi.inner import GradientDescent
from savi.report.figures.style import PALE, TITLE_PAD, WIDTH, legend_above, save, styled
from savi.settings import setting
from savi.types import Rows

#: What theory says of the error at distance ε of the solution.
EXPECTED = {"stop": "1", "ift": "2"}


@dataclass
class OrderConfig(DecoderConfig):
    """The decoder, and how well the inner problem is solved."""

    backends: list[str] = field(default_factory=list)  # by name
    examples: int = setting(8, at_least=1)
    data_dim: int = setting(8, at_least=1)
    hidden: int = setting(16, at_least=1)
    depth: int = setting(2, at_least=1)
    activation: str = "tanh"
    samples: int = setting(4, at_least=1)
    #: of relative stationarity, (smallest, largest), with so many ``points`` in between.
    levels: list[float] = field(default_factory=list)
    points: int = setting(11, at_least=3)
    window: list[float] = field(default_factory=list)  # of the fit, likewise
    max_steps: int = setting(20_000, at_least=1)  # of a solve
    #: a file that savi-train wrote, whose decoder and guesses then take the place of the untrained
    #: ones, on the first examples of validation.
    checkpoint: str | None = None
    data_path: str | None = None  # a folder of their files, to do without a download


class Point(NamedTuple):
    """One example, solved to one level."""

    level: float  # the relative stationarity that was asked for
    example: int  # its number in the batch
    stationarity: float  # ε = ‖∇J(λK)‖ / ‖∇J(λ0)‖ as reached
    error: float  # ‖g − g*‖ / ‖g*‖


@dataclass(frozen=True)
class ErrorCurve:
    """The points of one backend."""

    points: Sequence[Point]

    def median_error(self, level: float) -> float:
        """The median over the examples that were solved to ``level``."""
        return median(point.error for point in self.points if point.level == level)

    def slope(self, window: Sequence[float]) -> float:
        """The p of error = C_b ε^p, with a constant of its own for every example b.

        Least squares in log error against log ε over all points with ε in ``window``; NaN if
        there are none.
        """
        rise = run = 0.0
        for example in {point.example for point in self.points}:
            logs = [
                (math.log(point.stationarity), math.log(point.error))
                for point in self.points
                if point.example == example
                and window[0] <= point.stationarity <= window[1]
                and point.error > 0.0
            ]
            if logs:
                centre = [sum(axis) / len(logs) for axis in zip(*logs, strict=True)]
                rise += sum((e - centre[0]) * (g - centre[1]) for e, g in logs)
                run += sum((e - centre[0]) ** 2 for e, _ in logs)
        return rise / run if run > 0.0 else float("nan")


@benchmark("order", OrderConfig)
def run_order(config: Config, folder: Path) -> list[Table]:
    """Measure errors of the θ-gradient at inexact solutions, and fit their order.

    Writes ``order.csv``, a line for each backend, level and example, and ``order.png``. Returns the
    errors by level, with the slopes in the last lines.
    """
    _check(config)
    backends = {name: BACKENDS.build(name, {}) for name in config["backends"]}
    levels, window = _levels(config), config["window"]
    curves = {}
    with Progress(1 + len(backends)) as progress:
        solved = Solved.of({**config, "batch": config["examples"]})
        progress.advance("exact solutions")
        progress.say(f"{config['examples']} examples and their exact gradients")
        for name, backend in backends.items():
            curves[name] = solved.errors(backend, levels, config["max_steps"])
            progress.advance(name)
            progress.say(name)
    rows = [{"backend": name} | point._asdict() for name in curves for point in curves[name].points]
    write_csv(folder / "order.csv", rows)
    save(error_against_stationarity(curves, levels, window), folder / "order.png")
    errors = [
        [f"{level:.1e}", *(f"{curve.median_error(level):.1e}" for curve in curves.values())]
        for level in levels
    ]
    slopes = ["slope", *(f"{curve.slope(window):.2f}" for curve in curves.values())]
    theory = ["in theory", *(EXPECTED.get(name) for name in curves)]
    return [
        table(
            "Relative error of the θ-gradient",
            f"medians over the examples; slopes of log error against log stationarity in "
            f"[{window[0]:.0e}, {window[1]:.0e}]",
            [*errors, slopes, theory],
            left=["Stationarity"],
            right=list(curves),
            ends=lambda row: row == len(levels) - 1,
        )
    ]


def _check(config: Config) -> None:
    for key in ("levels", "window"):
        ends = config[key]
        if len(ends) != 2 or not 0 < ends[0] < ends[1] <= 1:
            raise InputError(f"{key} is {ends}: give two numbers [SMALLEST, LARGEST] in (0, 1]")
    check_not_empty(config, "backends")
    smallest, largest = config["window"]
    if sum(smallest <= level <= largest for level in _levels(config)) < 3:
        raise InputError(
            f"window {config['window']} holds fewer than 3 of the levels, too few to fit a slope: "
            "widen it, or raise points"
        )


def _levels(config: Config) -> list[float]:
    """From the largest to the smallest, evenly on a log scale."""
    smallest, largest = (math.log10(end) for end in config["levels"])
    return torch.logspace(largest, smallest, config["points"], dtype=torch.float64).tolist()


@dataclass(frozen=True)
class Solved:
    """A decoder's problem, whose J is the outer loss too, and the exact gradients."""

    problem: DecoderProblem  # the problem, in double precision
    lr: float  # a step size with which gradient descent converges
    #: for each example, dJ(λ*(θ); θ)/dθ in one vector: at λ* it is the partial derivative, by the
    #: envelope theorem.
    gradients: Sequence[Float[Tensor, " Q"]]

    @classmethod
    def of(cls, config: Config) -> Solved:
        """A decoder, data, and the exact solution of every example."""
        trained = config["checkpoint"] is not None
        problem = (trained_problem if trained else decoder_problem)(config, torch.float64)
        objective, start = problem.objective(), problem.start.detach()

        def energy(index: int) -> Energy:
            """J of one example."""
            rest, at = start.clone(), torch.tensor([index])
            return lambda y, _: objective(rest.index_copy(0, at, y))[index, None]

        none = start.new_zeros(0)
        sharpest = max(
            float(torch.linalg.eigvalsh(hessian(energy(b), y[None], none)).max())
            for b, y in enumerate(start)
        )
        descent = GradientDescent(lr=0.5 / sharpest)
        # Newton's method starts where the descent leads, so that both mean the same minimiser.
        near = minimize(
            objective, start, optimizer=descent, gradient=StopGradient(), max_steps=2000, rtol=1e-2
        ).value
        solution = torch.cat([minimiser(energy(b), none, y[None]) for b, y in enumerate(near)])
        return cls(problem, descent.lr, _theta_gradients(problem, objective, solution))

    def errors(
        self, backend: GradientBackend, levels: Sequence[float], max_steps: int
    ) -> ErrorCurve:
        """Stop gradient descent at each of ``levels``, and compare the θ-gradients.

        The solves are inexact on purpose: what the certificate says about them is not shown.
        """
        points = []
        for level in levels:
            objective, descent = self.problem.objective(), GradientDescent(lr=self.lr)
            with quiet():
                start, ends = self.problem.start.detach(), {"max_steps": max_steps, "rtol": level}
                solution = minimize(objective, start, optimizer=descent, gradient=backend, **ends)
                gradients = _theta_gradients(self.problem, objective, solution.value)
            for b, (gradient, exact) in enumerate(zip(gradients, self.gradients, strict=True)):
                error = float((gradient - exact).norm() / exact.norm())
                points.append(Point(level, b, float(solution.stationarity[b]), error))
        return ErrorCurve(points)


def _theta_gradients(
    problem: DecoderProblem, objective: Callable[[Tensor], Tensor], value: Rows
) -> list[Float[Tensor, " Q"]]:
    """For each example, the gradient of J(``value``) in θ, through ``value`` too."""
    theta = [weight for weight in problem.weights if weight is not problem.start]
    return [
        torch.cat([p.flatten() for p in torch.autograd.grad(loss, theta, retain_graph=True)])
        for loss in objective(value)
    ]


@styled
def error_against_stationarity(
    curves: Mapping[str, ErrorCurve], levels: Sequence[float], window: Sequence[float]
) -> Figure:
    """The median error of each backend against the stationarity, and the window of the fit."""
    figure = Figure(figsize=(0.7 * WIDTH, 0.45 * WIDTH), layout="constrained")
    axes = figure.subplots()
    axes.axvspan(*window, color=PALE, alpha=0.5, linewidth=0, zorder=0)
    for name, curve in curves.items():
        errors = [curve.median_error(level) for level in levels]
        text = f"{name}, slope {curve.slope(window):.2f}"
        Line(text, levels, errors, {"marker": "o"}).draw(axes)
    axes.set_xscale("log")
    axes.set_yscale("log")
    # Better solved to the right.
    axes.invert_xaxis()
    axes.set_xlabel("relative stationarity of the inner solve")
    axes.set_ylabel("relative error of the θ-gradient")
    axes.set_title("Gradient error of an inexact solve", pad=2 * TITLE_PAD)
    legend_above(axes)
    return figure
