"""Errors of θ-gradients at inexact solutions, and the order in which they vanish."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.order.problem import DecoderProblem
from benchmarks.quiet import quiet
from savi._minimize import minimize
from savi.gradients import GradientBackend
from savi.inner import GradientDescent


@dataclass(frozen=True)
class Point:
    """One example, solved to one level.

    Attributes:
        level: the relative stationarity that was asked for.
        example: its number in the batch.
        stationarity: ε = ‖∇J(λK)‖ / ‖∇J(λ0)‖ as reached.
        error: ‖g − g*‖ / ‖g*‖.
    """

    level: float
    example: int
    stationarity: float
    error: float


@dataclass(frozen=True)
class ErrorCurve:
    """The points of one backend."""

    points: Sequence[Point]

    def median_error(self, level: float) -> float:
        """The median over the examples that were solved to ``level``."""
        return median(point.error for point in self.points if point.level == level)

    def slope(self, window: tuple[float, float]) -> float:
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
            if not logs:
                continue
            centre = tuple(sum(axis) / len(logs) for axis in zip(*logs, strict=True))
            rise += sum((e - centre[0]) * (g - centre[1]) for e, g in logs)
            run += sum((e - centre[0]) ** 2 for e, _ in logs)
        return rise / run if run > 0.0 else float("nan")


def measure(
    problem: DecoderProblem, backend: GradientBackend, levels: Sequence[float], max_steps: int
) -> ErrorCurve:
    """Stop gradient descent at each of ``levels`` and compare the θ-gradient with the exact one.

    The solves are inexact on purpose: what the certificate says about them is not shown.
    """
    points = []
    for level in levels:
        with quiet():
            solution = minimize(
                problem.objective,
                problem.init,
                optimizer=GradientDescent(lr=problem.lr),
                gradient=backend,
                max_steps=max_steps,
                rtol=level,
            )
            gradients = problem.theta_gradients(solution.value)
        points += [
            Point(
                level,
                example,
                float(solution.stationarity[example]),
                float((gradient - exact).norm() / exact.norm()),
            )
            for example, (gradient, exact) in enumerate(
                zip(gradients, problem.gradients, strict=True)
            )
        ]
    return ErrorCurve(points)
