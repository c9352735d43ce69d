"""The contents of the page on one run."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from PIL import Image

from savi.report.html.certificate import statements
from savi.report.html.plots.curves import panels
from savi.report.html.plots.latents import latent_plots
from savi.report.html.words import data_of, duration, figure, method, moment
from savi.report.runs import Run
from savi.report.table import described, full_label, position

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


ALT = {
    "data": "A grid of test images",
    "reconstructions": "Test images, their reconstructions from the encoder's guess, and those "
    "after the inner solve",
    "prior_samples": "A grid of samples from the prior, decoded",
    "inner_histograms": "Histograms of the inner solves' final stationarity and curvature",
    "latent_scatter": "The latent codes of test images as points in the plane",
    "latent_traversals": "Decoded images along single latent dimensions",
    "inner_steps": "The ELBO and the gradient norm against the inner step",
    "learning_curves": "Training and validation curves of the logged metrics",
}
"""What the pictures of a run folder show, by file name."""


@dataclass(frozen=True)
class Picture:
    """An embedded picture: its title, alternative text, data URL, and size in pixels."""

    title: str
    alt: str
    source: str
    width: int
    height: int


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
        "metrics": ("Metrics", metric_groups(run)),
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


def pictures(run: Run) -> list[Picture]:
    """The PNG files of a run; the learning curves are there as plots already."""
    shown = [path for path in run.figures if path.stem != "learning_curves" or not run.curves]
    return [_picture(path) for path in shown]


def _picture(path: Path) -> Picture:
    title = path.stem.replace("_", " ").capitalize()
    encoded = base64.b64encode(path.read_bytes()).decode("ascii")
    with Image.open(path) as image:
        width, height = image.size
    source = f"data:image/png;base64,{encoded}"
    return Picture(title, ALT.get(path.stem, title), source, width, height)


def metric_groups(run: Run) -> list[tuple[str, list[dict[str, str]]]]:
    """All final figures under the headings of the closing table."""
    ordered = sorted(run.metrics, key=position)
    return [
        (group, [_row(name, run.metrics[name]) for name in names])
        for group, names in groupby(ordered, key=lambda name: described(name).group)
    ]


def _row(name: str, value: float) -> dict[str, str]:
    metric = described(name)
    return {
        "label": full_label(name),
        "value": figure(name, value),
        "unit": metric.unit,
        "better": ARROWS[metric.better],
        "name": name,
    }
