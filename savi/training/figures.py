"""The figures of a run, computed from its model and its data."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from savi.data import TensorDataModule
from savi.report.figures import (
    elbo_against_inner_step,
    image_grid,
    inner_histograms,
    latent_scatter,
    latent_traversals,
    learning_curves,
    prior_samples,
    read_metrics,
    reconstructions,
)
from savi.training.module import SemiAmortizedVAE
from savi.training.observe import TRAVERSAL, Observed, observe


def run_figures(
    module: SemiAmortizedVAE,
    data: TensorDataModule,
    curves: Path | None,
    observed: Observed | None = None,
) -> dict[str, Figure]:
    """The data, the figures of the model, and the learning curves if there are any.

    Args:
        module: the model.
        data: a data module that has been set up.
        curves: a ``metrics.csv``, or None.
        observed: the model as it was looked at; it is looked at now if None.
    """
    observed = observe(module, data) if observed is None else observed
    figures = {"data": image_grid(observed.x, "Test data", shape=data.shape, mean=data.mean)}
    figures |= model_figures(observed, data)
    if curves is not None and curves.is_file():
        figures["learning_curves"] = learning_curves(read_metrics(curves))
    return figures


def model_figures(observed: Observed, data: TensorDataModule) -> dict[str, Figure]:
    """Reconstructions at λ0 and λK, prior samples, the latent space, and the inner solves."""
    labels = [f"$z_{{{i + 1}}}$, {observed.kl[i]:.3g} nats" for i in observed.traversed]
    figures = {
        "reconstructions": reconstructions(
            observed.x, observed.init, observed.final, data.mean, data.shape
        ),
        "prior_samples": prior_samples(observed.samples, data.mean, data.shape),
        "latent_traversals": latent_traversals(
            observed.traversals, TRAVERSAL, labels, data.mean, data.shape
        ),
        "latent_scatter": latent_scatter(observed.means, observed.labels),
    }
    if observed.trace is not None:
        figures["inner_steps"] = elbo_against_inner_step(*observed.trace)
    if observed.stationarity is not None:
        figures["inner_histograms"] = inner_histograms(observed.stationarity, observed.curvature)
    return figures
