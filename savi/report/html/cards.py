"""The few figures that a run is judged by."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from savi.report.html.words import figure
from savi.report.runs import Run
from savi.report.table import described

ARROWS = {"higher": "higher is better", "lower": "lower is better", None: ""}


@dataclass(frozen=True)
class Card:
    """A figure in large type: its title, the value, its unit and a line below it."""

    title: str
    value: str
    unit: str
    note: str


def cards(run: Run) -> list[Card]:
    """The key figures of a run, those that it has."""
    made = (make(run) for make in CARDS)
    return [card for card in made if card is not None]


def _elbo(run: Run) -> Card | None:
    if "test/elbo" in run.metrics:
        return _card(run, "test/elbo", "Test ELBO")
    if "val/elbo" not in run.curves:
        return None
    last = float(run.curves["val/elbo"].values[-1])
    return Card("Validation ELBO", figure("val/elbo", last), "nats", "the last one logged")


def _log_likelihood(run: Run) -> Card | None:
    """The importance-weighted log p(x) of the examples that the bound beside it is of."""
    if "test/nll" not in run.metrics:
        return None
    value = -run.metrics["test/nll"]
    return Card("Log-likelihood", figure("test/elbo", value), "nats", "importance-weighted")


def _active_units(run: Run) -> Card | None:
    if "test/active_units" not in run.metrics:
        return None
    value = run.metrics["test/active_units"]
    latents = run.options.get("model.latent_dim")
    unit = f"of {latents}" if latents else ""
    return Card("Active units", figure("test/active_units", value), unit, "latents that are used")


def _step_seconds(run: Run) -> Card | None:
    if "cost/step_seconds" not in run.metrics:
        return None
    seconds = run.metrics["cost/step_seconds"]
    if not 0 <= seconds < 1:
        return _card(run, "cost/step_seconds", "Training step")
    return Card("Training step", f"{1e3 * seconds:.3g}", "ms", "lower is better")


def _plain(name: str, title: str) -> Callable[[Run], Card | None]:
    return lambda run: _card(run, name, title) if name in run.metrics else None


def _card(run: Run, name: str, title: str) -> Card:
    metric, value = described(name), run.metrics[name]
    note = ARROWS[metric.better] if math.isfinite(value) else "not a finite number"
    return Card(title, figure(name, value), metric.unit, note)


CARDS = (
    _elbo,
    _log_likelihood,
    _plain("test/gap/inference", "Inference gap"),
    _plain("test/gap/approximation", "Approximation gap"),
    _plain("test/gap/amortization", "Amortisation gap"),
    _plain("test/gap/generalization", "Generalisation gap"),
    _active_units,
    _step_seconds,
    _plain("cost/peak_memory_mb", "Peak memory"),
)
