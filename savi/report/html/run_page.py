"""The contents of the page on one run."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from PIL import Image

from savi.report.html.cards import ARROWS, cards
from savi.report.html.certificate import statements
from savi.report.html.plots.latents import latent_plots
from savi.report.html.plots.panels import panels
from savi.report.html.words import data_of, duration, figure, method, moment
from savi.report.runs import Run
from savi.report.table import described, full_label, position

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
