"""Data, reconstructions and samples: images as images, other vectors as small line plots."""

import math
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from savi.errors import InputError
from savi.report.figures.style import BLUE, FEW, GREY, VERMILION, WIDTH, finite, styled

CELL = 1.1
"""Largest side of one drawn example, in inches."""


@styled
def image_grid(
    images: Float[Tensor, "N ..."],
    title: str,
    *,
    shape: Sequence[int] | None = None,
    mean: Float[Tensor, " D"] | None = None,
    columns: int | None = None,
) -> Figure:
    """Draw N examples in a grid, row by row.

    Examples of shape (1, H, W) or (3, H, W) are drawn as images with pixels clipped to [0, 1];
    pixels that are not finite are vermilion. Any other shape is drawn as a line over its D values.

    Args:
        images: the examples, ``[N, C, H, W]`` or flat ``[N, D]``.
        title: heading of the figure.
        shape: shape of one example where ``images`` is flat.
        mean: mean of the data, added back to mean-centred examples.
        columns: examples in a row; by default as many as there are rows, up to rounding.

    Raises:
        InputError: if there are no examples, or ``shape`` or ``mean`` does not fit them.
    """
    examples = as_examples(images, shape, mean)
    columns = columns or math.ceil(math.sqrt(len(examples)))
    figure, grid = _grid(math.ceil(len(examples) / columns), columns, examples.shape[1:], title)
    for cell, example in zip_longest(grid.flat, examples):
        if example is None:
            cell.remove()
        else:
            _draw(cell, example)
    return figure


@styled
def reconstructions(
    x: Float[Tensor, "N ..."],
    init: Float[Tensor, "N ..."],
    final: Float[Tensor, "N ..."],
    mean: Float[Tensor, " D"] | None,
    shape: Sequence[int],
    examples: int = 10,
) -> Figure:
    """Rows of data, reconstructions at λ0 and reconstructions at λK, one example a column.

    Below each reconstruction x̂ stands its squared error ‖x − x̂‖² before any clipping. Where
    ``init`` equals ``final`` there was no inner optimisation and there is one row of
    reconstructions. Vectors are drawn as lines over the data in grey.

    Args:
        x: mean-centred data, flat or not.
        init: decoder means at λ0.
        final: decoder means at λK.
        mean: mean of the data, added back.
        shape: shape of one example.
        examples: how many columns at most.

    Raises:
        InputError: if there are no examples, or ``shape`` or ``mean`` does not fit them.
    """
    rows = {"data": x}
    if init is final or torch.equal(init, final):
        rows["reconstruction"] = final
    else:
        rows |= {"at $\\lambda_0$": init, "at $\\lambda_K$": final}
    drawn = {label: as_examples(row[:examples], shape, mean) for label, row in rows.items()}
    data = drawn["data"]
    title = "Data and reconstructions, with the squared error below"
    title += "" if is_image(shape) else "; data in grey"
    figure, grid = _grid(len(rows), len(data), data.shape[1:], title, labelled=True)
    for cells, (label, row) in zip(grid, drawn.items(), strict=True):
        cells[0].set_ylabel(label, rotation=0, ha="right", va="center", labelpad=8)
        if row is not data:
            _caption(cells, np.square(data - row).reshape(len(data), -1).sum(axis=1))
        for cell, truth, example in zip(cells, data, row, strict=True):
            if row is not data and not is_image(shape):
                _draw(cell, truth, colour=GREY)
            _draw(cell, example)
    return figure


def prior_samples(
    samples: Float[Tensor, "N ..."], mean: Float[Tensor, " D"] | None, shape: Sequence[int]
) -> Figure:
    """A grid of decoder means μ(z) for codes z ~ N(0, I) from the prior: see ``image_grid``."""
    return image_grid(samples, "Decoder means of samples from the prior", shape=shape, mean=mean)


def is_image(shape: Sequence[int]) -> bool:
    """Whether examples of this shape are drawn as images."""
    return len(shape) == 3 and shape[0] in (1, 3)


def as_examples(
    values: Tensor, shape: Sequence[int] | None, mean: Tensor | None
) -> Float[np.ndarray, "N ..."]:
    """The examples as an array in their own shape, with the mean added back."""
    if len(values) == 0:
        raise InputError("there are no examples to draw: pass at least one")
    shape = tuple(values.shape[1:]) if shape is None else tuple(shape)
    flat = values.detach().to("cpu", torch.float64).flatten(1)
    if flat.shape[1] != math.prod(shape):
        raise InputError(
            f"examples of {flat.shape[1]} values cannot be drawn in shape {shape}: "
            f"set a shape that has {flat.shape[1]} entries"
        )
    if mean is not None:
        if mean.numel() != flat.shape[1]:
            raise InputError(
                f"the mean has {mean.numel()} values and each example {flat.shape[1]}: "
                "pass the mean of the same data"
            )
        flat = flat + mean.detach().to(flat).flatten()
    return flat.reshape(-1, *shape).numpy()


def _grid(
    rows: int, columns: int, shape: Sequence[int], title: str, labelled: bool = False
) -> tuple[Figure, Shaped[np.ndarray, "rows columns"]]:
    """A figure with one bare cell per example; vectors share their axes, so they compare.

    ``labelled`` leaves room for a label before each row and a caption below each but the first.
    """
    image = is_image(shape)
    gap = 0.08 if image else 0.16
    label, caption = (0.8, 0.22) if labelled else (0.0, 0.0)
    side = min((WIDTH - label) / columns - gap, CELL if image else 2.5 * CELL)
    height = side * shape[1] / shape[2] if image else min(CELL, side)
    width = max(label + (side + gap) * columns, 5.0)
    size = width, 0.6 + (height + gap) * rows + caption * (rows - 1)
    pads: dict[str, Any] = {"h_pad": gap / 2, "w_pad": gap / 2, "hspace": 0, "wspace": 0}
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(compress=image, **pads))
    figure.suptitle(title)
    # Images are all drawn alike; axes that share their limits take long to build.
    shared = not image
    return figure, figure.subplots(rows, columns, sharex=shared, sharey=shared, squeeze=False)


def _caption(cells: Iterable[Axes], errors: Float[np.ndarray, " N"]) -> None:
    """Write each example's error below it, all with the decimals that suit the largest."""
    largest = np.max(errors, initial=0, where=np.isfinite(errors))
    ordinary = 1e-3 <= largest < 1e6
    spec = f".{max(0, 2 - math.floor(math.log10(largest)))}f" if ordinary else ".1e"
    for cell, error in zip(cells, errors, strict=True):
        cell.set_xlabel(format(error, spec), size=8)


def _draw(axes: Axes, example: Float[np.ndarray, "..."], colour: str = BLUE) -> None:
    """Draw one example, as its shape asks."""
    if not is_image(example.shape):
        line = finite(example.ravel())
        axes.plot(line, color=colour, linewidth=1.2, marker="." if line.size <= FEW else "")
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        axes.tick_params(labelsize=7, length=2)
        return
    axes.imshow(as_pixels(example), interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def as_pixels(image: Float[np.ndarray, "*batch C H W"]) -> Float[np.ndarray, "*batch H W 3"]:
    """RGB values in [0, 1] of images in grey or in colour; vermilion where not finite."""
    usable = np.isfinite(image).all(axis=-3)[..., None]
    pixels = np.moveaxis(np.nan_to_num(image).clip(0, 1), -3, -1)
    return np.where(usable, pixels, to_rgb(VERMILION))
