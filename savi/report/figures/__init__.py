"""Figures of a run: pure functions from data to a matplotlib ``Figure``, and ``save``."""

from savi.report.figures.curves import learning_curves
from savi.report.figures.images import image_grid, prior_samples, reconstructions
from savi.report.figures.inner import elbo_against_inner_step
from savi.report.figures.series import Series, read_metrics
from savi.report.figures.style import save

__all__ = [
    "Series",
    "elbo_against_inner_step",
    "image_grid",
    "learning_curves",
    "prior_samples",
    "read_metrics",
    "reconstructions",
    "save",
]
