"""The contents of the page on one run."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from savi.report.html.certificate import statements
from savi.report.html.pictures import pictures
from savi.report.html.plots.curves import panels
from savi.report.html.plots.latents import latent_plots
from savi.report.html.words import data_of, figure, method, moment
from savi.report.runs import Run
from savi.report.table import described, duration, grouped


class Card(NamedTuple):
    """A figure in large type: its title, the value, its unit and a line below it."""

    title: str
    value: str
    unit: str
    note: str


CARDS = {
    "test/elbo": "Test ELBO",
    "test/nll": "Log-likelihood",
    "test/gap/inference": "Inference gap",
    "test/gap/approximation": "Approximation gap",
    "test/gap/amortization": "Amortisation gap",
    "test/gap/generalization": "Generalisation gap",
    "test/active_units": "Active units",
    "cost/step_seconds": "Training step",
    "cost/peak_memory_mb": "Peak memory",
}
"""The key figures, with the titles of their cards."""


def cards(run: Run) -> list[Card]:
    """The key figures of a run, those that it has."""
    made = [_card(run, name) for name in CARDS if name in run.metrics]
    if "test/elbo" not in run.metrics and "val/elbo" in run.curves:
        last = figure("val/elbo", run.curves["val/elbo"].values[-1])
        made.insert(0, Card("Validation ELBO", last, "nats", "the last one logged"))
    return made


def _card(run: Run, name: str) -> Card:
    title, value, metric = CARDS[name], run.metrics[name], described(name)
    if name == "test/nll":
        # The log p(x) of the examples that the bound beside it is of.
        return Card(title, figure("test/elbo", -value), "nats", "importance-weighted")
    if name == "test/active_units":
        latents = run.options.get("model.latent_dim")
        unit = f"of {latents}" if latents else ""
        return Card(title, figure(name, value), unit, "latents that are used")
    if name == "cost/step_seconds" and 0 <= value < 1:
        return Card(title, f"{1e3 * value:.3g}", "ms", "lower is better")
    better = f"{metric.better} is better" if metric.better else ""
    note = better if math.isfinite(value) else "not a finite number"
    return Card(title, figure(name, value), metric.unit, note)


def run_context(run: Run) -> dict[str, Any]:
    """Everything that the template of a run needs."""
    drawn = panels(run.curves)
    latents = latent_plots(run.verdict) if run.verdict else {}
    best = run.folder / "checkpoints" / "best.ckpt"
    sections = {
        "figures": ("Key figures", cards(run)),
        "curves": ("Curves", drawn),
        "collapse": ("Latents", run.verdict),
        "pictures": ("Pictures", pictures(run)),
        "certificate": ("Certificate", statements(run.metrics, run.options)),
        "metrics": ("Metrics", [(group, list(names)) for group, names in grouped(run.metrics)]),
        "reproduce": ("Reproduce", True),
        "config": ("Config", run.config),
    }
    return {
        "run": run,
        "facts": facts(run),
        "sections": {key: title for key, (title, content) in sections.items() if content},
        **{key: content for key, (_, content) in sections.items()},
        "evaluate": f"savi-evaluate checkpoint={best.as_posix()}" if best.is_file() else "",
        "latent_titles": {key: title for key, (title, _) in latents.items()},
        "plots": {f"curve-{number}": panel.plot for number, panel in enumerate(drawn)}
        | {key: plot for key, (_, plot) in latents.items()},
    }


def run_title(run: Run) -> str:
    """What was trained on what; the run's name where it has no config."""
    return f"{method(run)} on {data_of(run)}" if method(run) and data_of(run) else run.name


def facts(run: Run) -> list[tuple[str, str]]:
    """What was trained on what, where it is, when it started, and how long it took."""
    seed = run.config.get("seed")
    rows = [
        ("Method", method(run)),
        ("Data", data_of(run)),
        ("Folder", run.folder.as_posix()),
        ("Seed", "" if seed is None else str(seed)),
        ("Started", moment(run.started)),
        ("Took", duration(run.duration)),
    ]
    return [(name, value) for name, value in rows if value]
