"""Where the posterior means lie, and what each latent dimension does to the decoder's output."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from savi.errors import InputError
from savi.report.figures.images import CELL, as_examples, as_pixels, is_image
from savi.report.figures.style import (
    BLUE,
    WIDTH,
    array,
    finite,
    message,
    omission,
    set_tiles,
    styled,
)

CLASSES = 20
"""More classes than this cannot be told apart by colour."""


@styled
def latent_scatter(means: Float[Tensor, "N d"], labels: Int[Tensor, " N"] | None = None) -> Figure:
    """Posterior means in the plane, coloured by class where there are labels.

    Two latent dimensions are drawn as they are; of more, the first two principal components, with
    their share of the variance; a single one as a strip, with a row for each class. Means that
    are not finite are left out and counted.

    Args:
        means: posterior means.
        labels: the class of each example; None, or more than 20 classes, for no colours.

    Raises:
        InputError: if there are no means, or not as many labels.
    """
    points = array(means)
    if points.ndim != 2 or not points.size:
        raise InputError(f"means of shape {points.shape} cannot be drawn: pass [N, d]")
    classes = np.zeros(len(points), int) if labels is None else labels.cpu().numpy()
    if len(classes) != len(points):
        raise InputError(f"{len(points)} means with {len(classes)} labels: pass one for each")
    usable = np.isfinite(points).all(axis=1)
    if not usable.any():
        return message("No posterior mean is finite")
    points, classes = points[usable], classes[usable]
    names = np.unique(classes)
    if len(names) > CLASSES:
        classes, names = np.zeros(len(points), int), np.zeros(1, int)
    figure = Figure(figsize=(6.4, 5.2 if points.shape[1] > 1 else 3.4), layout="constrained")
    axes = figure.subplots()
    plane, shares = _plane(points, np.searchsorted(names, classes))
    _draw(axes, plane, classes, names)
    _label(axes, points.shape[1], shares, omission(int(np.sum(~usable))))
    figure.suptitle(f"Posterior means of {len(points):,} examples")
    if len(names) > 1:
        figure.legend(loc="outside right upper", markerscale=2, handletextpad=0.2)
    return figure


def _plane(
    points: Float[np.ndarray, "N d"], rows: Int[np.ndarray, " N"]
) -> tuple[Float[np.ndarray, "N 2"], list[float]]:
    """Coordinates in the plane, and the principal components' shares of the variance."""
    dimension = points.shape[1]
    if dimension == 1:
        # Spread within a row by a low-discrepancy sequence: the same at every call.
        spread = (np.arange(len(points)) * 0.6180339887) % 1.0 - 0.5
        return np.column_stack([points[:, 0], -rows + 0.7 * spread]), []
    if dimension == 2 or not np.ptp(points, axis=0).any():
        return points[:, :2], []
    # scikit-learn takes long to import.
    from sklearn.decomposition import PCA

    components = PCA(2, svd_solver="full").fit(points)
    return components.transform(points), np.nan_to_num(
        components.explained_variance_ratio_
    ).tolist()


def _draw(
    axes: Axes, plane: np.ndarray, classes: Int[np.ndarray, " N"], names: Int[np.ndarray, " C"]
) -> None:
    """Draw the points in the order of the data, so that no class hides the others."""
    palette = colormaps["tab10" if len(names) <= 10 else "tab20"].colors  # type: ignore[attr-defined]
    colours = np.array([BLUE]) if len(names) == 1 else np.array(palette)[: len(names)]
    size = 14.0 if len(plane) <= 500 else 7.0
    colour = colours[np.searchsorted(names, classes)]
    axes.scatter(plane[:, 0], plane[:, 1], s=size, c=colour, alpha=0.8, linewidths=0)
    for name, colour in zip(names, colours, strict=True):
        axes.scatter([], [], s=size, color=colour, label=str(name), linewidths=0)


def _label(axes: Axes, dimension: int, shares: list[float], left_out: str) -> None:
    """Say what the axes are."""
    names = ["$z_1$", "$z_2$"]
    for number, share in enumerate(shares):
        which = ("first", "second")[number]
        names[number] = f"{which} principal component ({share:.0%} of the variance)"
    axes.set_xlabel(names[0] + left_out)
    if dimension == 1:
        axes.set_yticks([])
        return
    axes.set_ylabel(names[1])
    axes.set_aspect("equal", adjustable="datalim")


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
        mean: mean of the data, added back.
        shape: shape of one example.

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
    examples = as_examples(means.flatten(0, 1), shape, mean).reshape(rows, columns, *shape)
    draw = _canvas if is_image(shape) else _curves
    figure = draw(examples, values, labels)
    figure.suptitle("Decoder means as one latent dimension varies")
    return figure


def _canvas(
    examples: Float[np.ndarray, "R V C H W"], values: Sequence[float], labels: Sequence[str]
) -> Figure:
    """All images in one, with a white pixel between them: much faster than axes for each."""
    tiles = as_pixels(examples)
    rows, columns, height, width = tiles.shape[:4]
    tiles = np.pad(tiles, ((0, 0), (0, 0), (0, 1), (0, 1), (0, 0)), constant_values=1.0)
    canvas = tiles.swapaxes(1, 2).reshape(rows * (height + 1), columns * (width + 1), 3)
    side = min((WIDTH - 1.3) / columns, CELL)
    size = (max(1.3 + side * columns, 5.0), 0.9 + side * rows * height / width)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    set_tiles(axes.imshow(canvas[:-1, :-1], interpolation="nearest"), rows, columns)
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xticks(_centres(columns, width), [f"{value:g}" for value in values])
    axes.set_yticks(_centres(rows, height), labels)
    axes.set_xlabel("value of the dimension, in standard deviations of the prior")
    return figure


def _centres(count: int, size: int) -> Float[np.ndarray, " N"]:
    """The middle of each of ``count`` tiles of ``size`` pixels and one between them."""
    return np.arange(count) * (size + 1) + (size - 1) / 2


def _curves(
    examples: Float[np.ndarray, "R V ..."], values: Sequence[float], labels: Sequence[str]
) -> Figure:
    """One small plot for each row; its lines take the colours of the values."""
    figure = Figure(figsize=(WIDTH, 0.9 + ROW * len(examples)), layout="constrained")
    cells = figure.subplots(len(examples), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    colours = ScalarMappable(Normalize(min(values), max(values)), "viridis")
    rgba = colours.to_rgba(np.asarray(values))
    for axes, lines, label in zip(cells, examples, labels, strict=True):
        for line, colour in zip(lines, rgba, strict=True):
            axes.plot(finite(line.ravel()), color=colour, linewidth=1.0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel(label, rotation=0, ha="right", va="center", labelpad=8)
    figure.colorbar(colours, ax=list(cells), label="standard deviations of the prior")
    return figure
