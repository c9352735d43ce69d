"""What each latent dimension does to the decoder's output."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from savi.errors import InputError
from savi.report.figures.images import CELL, as_examples, as_pixels, is_image
from savi.report.figures.style import WIDTH, message, styled

ROW = 0.9
"""Height of a row of vectors in inches."""


@styled
def latent_traversals(
    means: Float[Tensor, "R V D"],
    values: Sequence[float],
    labels: Sequence[str],
    mean: Float[Tensor, " D"] | None,
    shape: Sequence[int],
) -> Figure:
    """Decoder means along one latent dimension at a time, one dimension a row.

    Images stand side by side, at the values below them. Vectors are drawn over each other, in the
    colours of the values.

    Args:
        means: μ(z), where z differs from row to row in the dimension that takes the V values.
        values: what the dimension is set to, in units of the prior's standard deviation.
        labels: a name for each row.
        mean: mean of the data, added back; None for data that are not centred.
        shape: shape of one example, (C, H, W) for images.

    Raises:
        InputError: if ``values`` or ``labels`` does not fit the rows, or ``shape`` or ``mean``
            does not fit the examples.
    """
    rows, columns = means.shape[:2]
    if (rows, columns) != (len(labels), len(values)):
        raise InputError(
            f"{rows} rows of {columns} decoder means with {len(labels)} labels and {len(values)} "
            "values: pass a label for each row and a value for each column"
        )
    if rows == 0:
        return message("No latent dimension is active: there is nothing to traverse")
    examples = as_examples(means.flatten(0, 1), shape, mean)
    title = "Decoder means as one latent dimension varies"
    if is_image(shape):
        tiles = as_pixels(examples.reshape(rows, columns, *shape))
        figure, axes = _canvas(tiles)
        axes.set_xticks(_centres(columns, shape[2]), [f"{value:g}" for value in values])
        axes.set_yticks(_centres(rows, shape[1]), labels)
        axes.set_xlabel("value of the dimension, in standard deviations of the prior")
    else:
        figure = _curves(examples.reshape(rows, columns, -1), values, labels)
    figure.suptitle(title)
    return figure


def _canvas(tiles: Float[np.ndarray, "R V H W 3"]) -> tuple[Figure, Axes]:
    """All images in one, with a white pixel between them: much faster than axes for each."""
    rows, columns, height, width = tiles.shape[:4]
    tiles = np.pad(tiles, ((0, 0), (0, 0), (0, 1), (0, 1), (0, 0)), constant_values=1.0)
    canvas = tiles.swapaxes(1, 2).reshape(rows * (height + 1), columns * (width + 1), 3)
    side = min((WIDTH - 1.3) / columns, CELL)
    size = (max(1.3 + side * columns, 5.0), 0.9 + side * rows * height / width)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.imshow(canvas[:-1, :-1], interpolation="nearest")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure, axes


def _centres(count: int, size: int) -> Float[np.ndarray, " N"]:
    """The middle of each of ``count`` tiles of ``size`` pixels and one between them."""
    return np.arange(count) * (size + 1) + (size - 1) / 2


def _curves(
    examples: Float[np.ndarray, "R V D"], values: Sequence[float], labels: Sequence[str]
) -> Figure:
    """One small plot for each row; its lines take the colours of the values."""
    figure = Figure(figsize=(WIDTH, 0.9 + ROW * len(examples)), layout="constrained")
    cells = figure.subplots(len(examples), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    colours = ScalarMappable(Normalize(min(values), max(values)), "viridis")
    rgba = colours.to_rgba(np.asarray(values))
    for axes, lines, label in zip(cells, examples, labels, strict=True):
        for line, colour in zip(lines, rgba, strict=True):
            drawn = np.where(np.isfinite(line), line, np.nan)
            axes.plot(drawn, color=colour, linewidth=1.0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel(label, rotation=0, ha="right", va="center", labelpad=8)
    figure.colorbar(colours, ax=list(cells), label="standard deviations of the prior")
    return figure
