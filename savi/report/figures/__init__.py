"""Figures of a run: pure functions from data to a matplotlib ``Figure``, and ``save``."""

from savi.report.figures.curves import Series, learning_curves, read_metrics
from savi.report.figures.images import image_grid, prior_samples, reconstructions
from savi.report.figures.inner import elbo_against_inner_step, inner_histograms
from savi.report.figures.latents import latent_scatter, latent_traversals
from savi.report.figures.style import save

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
