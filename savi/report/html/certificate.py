"""What the figures of the inner solves and of the implicit gradients mean, in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from savi.report.table import described

Tone = Literal["good", "caution", "bad", "plain"]

DIFFERENTIATES_THE_SOLUTION = ("ift", "one_step", "stop")
"""Gradient backends that take the inner problem for solved."""


@dataclass(frozen=True)
class Statement:
    """A figure of a run, what it measures, and what its value says.

    The ``tone`` tells whether it is a reason for trust; the ``verdict`` is empty for a figure that
    is neither good nor bad in itself.
    """

    label: str
    name: str
    value: str
    tone: Tone
    verdict: str
    meaning: str


Judge = Callable[[float, Mapping[str, Any]], tuple[Tone, str]]


def _none(value: float, options: Mapping[str, Any]) -> tuple[Tone, str]:
    return "plain", ""


def _either(good: Callable[[float], bool], yes: str, no: str, tone: Tone = "caution") -> Judge:
    return lambda value, options: ("good", yes) if good(value) else (tone, no)


def _failures(value: float, options: Mapping[str, Any]) -> tuple[Tone, str]:
    if value == 0:
        return "good", "No example broke a condition."
    tone: Tone = "caution" if value < 0.05 else "bad"
    return tone, "The gradients of these examples are not implicit gradients of a solution."


def _error(value: float, options: Mapping[str, Any]) -> tuple[Tone, str]:
    if value <= 0.01:
        return "good", "Gradients are good to a hundredth."
    if value <= 0.1:
        return "caution", "Above a hundredth: solve the inner problem further."
    return "bad", "Gradients are off by a tenth or more: solve the inner problem further."


def _residual(value: float, options: Mapping[str, Any]) -> tuple[Tone, str]:
    tolerance = options.get("gradient.rtol") or 1e-5
    if value <= tolerance:
        return "good", f"Within the tolerance of {tolerance:g}."
    return "caution", f"Above the tolerance of {tolerance:g}."


def _solved(value: float, options: Mapping[str, Any]) -> tuple[Tone, str]:
    if options.get("gradient.name") not in DIFFERENTIATES_THE_SOLUTION:
        return "plain", "The gradient is that of the steps taken, converged or not."
    if value >= 0.95:
        return "good", "Nearly all are solved, as this gradient takes for granted."
    return "caution", "This gradient takes them for solved: raise inner.max_steps."


_failed = _either(
    lambda value: value == 0,
    "None failed in the whole training.",
    "Some failed in training: the metrics tell of how many, and why.",
)
_left_out = _either(
    lambda value: value == 0,
    "None in the whole training.",
    "The weights are those of the other steps: savi-train replay=bad_step.ckpt shows the first.",
)
_curvature = _either(
    lambda value: value > 0,
    "Positive: the solutions are strict minima of the inner problem.",
    "Not positive: some solutions are saddle points or lie in a valley.",
    "bad",
)
_reference = _either(
    lambda value: value >= 0.95,
    "The gaps are measured against the best posterior of the family.",
    "The others' amortisation gaps are lower bounds: raise evaluation.gap_steps.",
)
_stationary = _either(
    lambda value: value <= 1e-2,
    "Small: the reference is a stationary point.",
    "Not small: the reference is not at its optimum yet.",
)

STATEMENTS: dict[str, tuple[str, Judge]] = {
    "inner/converged": (
        "Share of test examples whose inner problem met its tolerance.", _solved),
    "inner/stationarity": (
        "Gradient of the inner objective where the solve ended, relative to that at its start; "
        "the median over test examples.", _none),
    "inner/steps": ("Inner steps that an example took, on average.", _none),
    "inner/improvement": (
        "What the inner steps gain in the bound over the encoder's guess.", _none),
    "inner/refined_from": (
        "The training step from which on inner steps were taken; those before it were a plain "
        "VAE's.", _none),
    "inner/solves_failed": (
        "Inner solves that failed, of one for each training example and step.",
        _failed),
    "train/bad_steps": (
        "Training steps that were left out, because their loss or their gradient was not finite.",
        _left_out),
    "ift/failures": (
        "Share of training examples that broke a condition of the implicit function theorem in the "
        "last logged step: a solved problem, a positive definite Hessian, a solved linear system, "
        "no kink.", _failures),
    "ift/error_bound": (
        "Estimated relative error of the implicit gradient, from two gradients near the solution.",
        _error),
    "ift/min_curvature": (
        "Estimate of the smallest eigenvalue of the inner Hessian.", _curvature),
    "ift/linear_residual": (
        "Relative residual of the linear system behind the implicit gradient.", _residual),
    "ift/linear_steps": ("Iterations of the linear solver; 0 for a direct one.", _none),
    "test/gap/converged": (
        "Share of test examples whose reference for the gaps, the best posterior of the family, "
        "was found to its tolerance.", _reference),
    "test/gap/stationarity": (
        "Relative gradient of the bound at that reference.", _stationary),
    "test/gap/min_curvature": (
        "Smallest curvature of the negative bound at that reference.", _curvature),
}  # fmt: skip
"""Logged name -> what is measured, and what the value says."""


def statements(metrics: Mapping[str, float], options: Mapping[str, Any]) -> list[Statement]:
    """The figures that vouch for a run's gradients and gaps, those that it has.

    Args:
        metrics: logged name to value.
        options: the run's config by dotted keys.
    """
    found = []
    for name, (meaning, judge) in STATEMENTS.items():
        if name not in metrics:
            continue
        value, metric = metrics[name], described(name)
        judged: tuple[Tone, str] = ("bad", "Not a number.")
        if not math.isnan(value):
            judged = judge(value, options)
        shown = f"{metric.format(value)} {metric.unit}".strip()
        found.append(Statement(metric.label, name, shown, *judged, meaning))
    return found
