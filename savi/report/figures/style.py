"""One look for every figure, what its axes show of the data, and the way it is saved."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Literal, ParamSpec

import matplotlib.style
import numpy as np
from cycler import cycler
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import LogFormatterSciNotation, LogLocator
from matplotlib.transforms import BboxBase
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from savi.runs.whole import whole

P = ParamSpec("P")

WIDTH = 10.0
"""Width of a full figure in inches."""

BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
PALETTE = (BLUE, VERMILION, GREEN, PURPLE)
"""Colours that stay apart under colour blindness (Okabe and Ito, Color Universal Design, 2008)."""
INK, GREY, PALE = "#333333", "#8A8A8A", "#E6E6E6"

IMAGES = "savi:images"
"""Under what a PNG has the boxes of the images in it, in pixels."""

DRAWN_COLOURS = 4096
"""Lines, points and grey images have fewer colours, soft edges included; photographs more."""

PAD = 0.1
"""Inches around what is drawn."""

FEW = 30
"""Up to this many points on a line, each is marked."""
TITLE_PAD = 20
"""Points between axes and title that leave room for a legend."""

STYLE = {
    "figure.dpi": 120,
    "savefig.dpi": 120,
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


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Decorate a function that builds a figure, to build it in the common style."""

    @wraps(draw)
    def in_style(*args: P.args, **kwargs: P.kwargs) -> Figure:
        # Whatever the user's own settings are.
        with matplotlib.style.context(["default", STYLE]):
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
    """Write ``figure`` as a PNG, and return its path; the folder is made if need be.

    The same figure gives the same bytes: no time, no version in the metadata. These tell where in
    it there are images, whose colours are the data's, so that a page can draw the rest in others.
    """
    path, drawn, facts = Path(path), io.BytesIO(), PngInfo()
    with matplotlib.style.context(["default", STYLE]):
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw(renderer)
        cut = figure.get_tightbbox(renderer).padded(PAD)
        # What has been laid out stays so: to do it anew would move it, by less than a pixel.
        figure.set_layout_engine("none")
        figure.savefig(drawn, format="png", bbox_inches=cut)
    with whole(path) as part, Image.open(drawn) as image:
        boxes = _images(figure, cut, image.height)
        facts.add_text(IMAGES, json.dumps(boxes))
        shown = compact(image.convert("RGB"), drawn=not boxes)
        shown.save(part, format="png", optimize=True, pnginfo=facts)
    return path


def _images(figure: Figure, cut: BboxBase, height: int) -> list[list[int]]:
    """The boxes of the images in a drawn figure that is cut so: left, top, right and bottom."""
    left, top = figure.dpi * cut.x0, height + figure.dpi * cut.y0
    boxes = []
    for axes in (axes for axes in figure.axes if axes.images):
        box, (image, *_) = axes.get_window_extent(), axes.images
        across, down = (
            _stretches(pixels, count)
            for pixels, count in zip(image.get_size()[::-1], tiles_of(image)[::-1], strict=True)
        )
        x, y = box.x0 - left, top - box.y1
        boxes += [
            (x + box.width * x0, y + box.height * y0, x + box.width * x1, y + box.height * y1)
            for y0, y1 in down
            for x0, x1 in across
        ]
    return [[round(side) for side in one] for one in boxes]


def _stretches(pixels: int, count: int) -> list[tuple[float, float]]:
    """From where to where tiles reach, of so many with a pixel between them, as shares."""
    each = (pixels + 1) // count
    return [(n * each / pixels, ((n + 1) * each - 1) / pixels) for n in range(count)]


def set_tiles(image: AxesImage, rows: int, columns: int) -> None:
    """Say of an image that it is made of others, with a pixel of the ground between them."""
    image.set_gid(f"{rows}x{columns}")


def tiles_of(image: AxesImage) -> tuple[int, int]:
    """How many rows and columns it has; one of each if nothing has been said."""
    rows, columns = (image.get_gid() or "1x1").split("x")
    return int(rows), int(columns)


def compact(image: Image.Image, *, drawn: bool = False) -> Image.Image:
    """A drawing in a palette, which takes a third of the room; photographs stay as they are.

    What is not known to be ``drawn`` is taken for a drawing if its colours are few.
    """
    if not drawn and image.getcolors(DRAWN_COLOURS) is None:
        return image
    return image.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)


def array(values: Tensor) -> np.ndarray:
    """The values as NumPy has them, in double precision."""
    return values.detach().cpu().double().numpy()


def finite(values: np.ndarray) -> np.ndarray:
    """The values, with NaN in place of those that matplotlib could not draw."""
    return np.where(np.isfinite(values), values, np.nan)


def view(curves: Sequence[Float[np.ndarray, " T"]]) -> tuple[float, float] | None:
    """The part of a linear axis to show, or None for all of it.

    Each curve asks for the range between its Tukey fences, Q1 − 1.5 IQR and Q3 + 1.5 IQR, within
    the data; the view is the smallest that grants all of them. It is taken only where it more
    than doubles the resolution.
    """
    curves = [curve[np.isfinite(curve)] for curve in curves if np.isfinite(curve).any()]
    if not curves:
        return None
    everything = np.concatenate(curves)
    quartiles = [np.quantile(curve, (0.25, 0.75)) for curve in curves]
    low = max(everything.min(), min(q1 - 1.5 * (q3 - q1) for q1, q3 in quartiles))
    high = min(everything.max(), max(q3 + 1.5 * (q3 - q1) for q1, q3 in quartiles))
    if high <= low or np.ptp(everything) <= 2 * (high - low):
        return None
    margin = 0.06 * (high - low)
    return float(low - margin), float(high + margin)


def clip(axes: Axes, curves: Sequence[Float[np.ndarray, " T"]], unit: str) -> None:
    """Limit the y axis to the ``view`` of its curves, and say in its label how far they go."""
    limits = view(curves)
    axes.set_ylabel(unit)
    # A factor such as 1e12 stands at the right, out of the legend's way.
    axes.yaxis.set_offset_position("right")
    if limits is None:
        return
    everything = np.concatenate(curves)
    lowest, highest = np.nanmin(everything), np.nanmax(everything)
    ends = [f"min {short(lowest)}"] if lowest < limits[0] else []
    ends += [f"max {short(highest)}"] if highest > limits[1] else []
    axes.set_ylim(limits)
    axes.set_ylabel(f"{unit}\n(clipped: {', '.join(ends)})".lstrip())


def log_scale(axes: Axes, direction: Literal["x", "y"] = "y") -> None:
    """Make an axis logarithmic, with labels that do not crowd a small panel."""
    axes.set(**{f"{direction}scale": "log"})
    axis = axes.xaxis if direction == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(numticks=6))
    axis.set_minor_formatter(LogFormatterSciNotation(minor_thresholds=(1, 0.4)))


def short(value: float) -> str:
    """A number for a label: few digits, no more characters than need be."""
    text = f"{value:,.0f}" if 100 <= abs(value) < 1e6 else f"{value:.3g}"
    return text.replace("e+0", "e").replace("e+", "e").replace("e-0", "e-").replace("-", "−")


def legend_above(axes: Axes) -> None:
    """Put the legend between the title and the axes, where it cannot hide a curve."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderpad=0, borderaxespad=0.3)


def omission(count: int, fault: str = "finite") -> str:
    """What a panel leaves out, in words to follow the label of its x axis."""
    return f" ({count:,} value{'s' * (count > 1)} not {fault})" if count else ""
