"""Figures of a run: pure functions from data to a matplotlib ``Figure``, and ``save``."""

from savi.report.figures.curves import learning_curves
from savi.report.figures.histograms import inner_histograms
from savi.report.figures.images import image_grid, prior_samples, reconstructions
from savi.report.figures.inner import elbo_against_inner_step
from savi.report.figures.latents import latent_scatter
from savi.report.figures.series import Series, read_metrics
from savi.report.figures.style import save
from savi.report.figures.traversals import latent_traversals

__all__ = [
    "Series",
    "elbo_against_inner_step",
    "image_grid",
    "inner_histograms",
    "latent_scatter",
    "latent_traversals",
    "learning_curves",
    "prior_samples",
    "read_metrics",
    "reconstructions",
    "save",
]
