"""One look for every figure, and the way they are saved."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from pathlib import Path
from typing import ParamSpec

import matplotlib.style
from cycler import cycler
from matplotlib.figure import Figure

P = ParamSpec("P")

WIDTH = 10.0
"""Width of a full figure in inches."""

BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
PALETTE = (BLUE, VERMILION, GREEN, PURPLE)
"""Colours that stay apart under colour blindness (Okabe and Ito, Color Universal Design, 2008)."""
INK, GREY, PALE = "#333333", "#8A8A8A", "#E6E6E6"

FEW = 30
"""Up to this many points on a line, each is marked."""
TITLE_PAD = 20
"""Points between axes and title that leave room for a legend."""

STYLE = {
    "figure.dpi": 120,
    "savefig.dpi": 120,
    "savefig.pad_inches": 0.1,
    "figure.titlesize": 11,
    "figure.titleweight": "bold",
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.w_pad": 0.06,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.prop_cycle": cycler(color=PALETTE),
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.formatter.useoffset": False,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": PALE,
    "grid.linewidth": 0.8,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.handlelength": 1.2,
}


def style() -> AbstractContextManager[None]:
    """The context in which figures are built and drawn, whatever the user's own settings are."""
    return matplotlib.style.context(["default", STYLE])


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Decorate a function that builds a figure, to build it in the common style."""

    @wraps(draw)
    def in_style(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with style():
            return draw(*args, **kwargs)

    return in_style


def message(text: str) -> Figure:
    """A figure that only says why there is nothing to draw."""
    figure = Figure(figsize=(WIDTH, 1.2))
    axes = figure.add_axes((0, 0, 1, 1), xticks=[], yticks=[])
    axes.spines[:].set(visible=True, color=PALE)
    axes.text(0.5, 0.5, text, ha="center", va="center", size=11, transform=axes.transAxes)
    return figure


def save(figure: Figure, path: Path | str) -> Path:
    """Write ``figure`` as a PNG; its folder is made if need be.

    The same figure gives the same bytes: no time, no version in the metadata.

    Returns:
        The path written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with style():
        figure.savefig(path, format="png", metadata={"Software": None}, bbox_inches="tight")
    return path
