"""Where the posterior means lie."""

import numpy as np
from jaxtyping import Float, Int
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from savi.errors import InputError
from savi.report.figures.axes import omission
from savi.report.figures.style import BLUE, message, styled

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
    points = means.detach().cpu().double().numpy()
    if points.ndim != 2 or not points.size:
        raise InputError(f"means of shape {points.shape} cannot be drawn: pass [N, d]")
    classes = np.zeros(len(points), int) if labels is None else labels.cpu().numpy()
    if len(classes) != len(points):
        raise InputError(f"{len(points)} means with {len(classes)} labels: pass one for each")
    finite = np.isfinite(points).all(axis=1)
    if not finite.any():
        return message("No posterior mean is finite")
    points, classes = points[finite], classes[finite]
    names = np.unique(classes)
    if labels is None or len(names) > CLASSES:
        classes, names = np.zeros(len(points), int), np.zeros(1, int)
    figure = Figure(figsize=(6.4, 5.2 if points.shape[1] > 1 else 3.4), layout="constrained")
    axes = figure.subplots()
    plane, shares = _plane(points, np.searchsorted(names, classes))
    _draw(axes, plane, classes, names)
    _label(axes, points.shape[1], shares, omission(int(np.sum(~finite))))
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
    shares = np.nan_to_num(components.explained_variance_ratio_)
    return components.transform(points), [float(share) for share in shares]


def _draw(
    axes: Axes,
    plane: Float[np.ndarray, "N 2"],
    classes: Int[np.ndarray, " N"],
    names: Int[np.ndarray, " C"],
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
    if dimension == 1:
        axes.set_xlabel("$z_1$" + left_out)
        axes.set_yticks([])
        return
    names = ("$z_1$", "$z_2$")
    if shares:
        names = tuple(  # type: ignore[assignment]
            f"{name} principal component ({share:.0%} of the variance)"
            for name, share in zip(("first", "second"), shares, strict=True)
        )
    axes.set_xlabel(names[0] + left_out)
    axes.set_ylabel(names[1])
    axes.set_aspect("equal", adjustable="datalim")
