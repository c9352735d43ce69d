"""How much the latent dimensions are used."""

from __future__ import annotations

import numpy as np

from savi.report.html.plots.base import Plot, colour, numbers
from savi.report.runs import Verdict


def latent_plots(verdict: Verdict) -> dict[str, tuple[str, Plot]]:
    """Name -> title and plot: the KL of every dimension, and the spread of σ_z, if recorded."""
    plots = {}
    if verdict.kl_per_dimension:
        plots["kl-per-dimension"] = ("KL of each latent dimension, sorted", _kl(verdict))
    if verdict.sigma_counts and len(verdict.sigma_edges) == len(verdict.sigma_counts) + 1:
        plots["sigma-histogram"] = ("Posterior standard deviations", _sigma(verdict))
    return plots


def _kl(verdict: Verdict) -> Plot:
    order = np.argsort(verdict.kl_per_dimension)[::-1]
    bars = {
        "type": "bar",
        "x": list(range(1, len(order) + 1)),
        "y": numbers(np.asarray(verdict.kl_per_dimension)[order]),
        "customdata": order.tolist(),
        "marker": {"color": colour(0)},
        "hovertemplate": "%{y:.4g} nats, dimension %{customdata}<extra></extra>",
    }
    axes = {"xaxis": {"title": {"text": "rank"}}, "yaxis": {"title": {"text": "nats"}}}
    return {"data": [bars], "layout": {**axes, "hovermode": "closest"}}


def _sigma(verdict: Verdict) -> Plot:
    edges = np.asarray(verdict.sigma_edges)
    bars = {
        "type": "bar",
        "x": numbers((edges[:-1] + edges[1:]) / 2),
        "y": numbers(verdict.sigma_counts),
        "width": numbers(np.diff(edges)),
        "marker": {"color": colour(1)},
        "hovertemplate": "%{y:,} near σ = %{x:.2f}<extra></extra>",
    }
    axes = {
        "xaxis": {"title": {"text": "σ of a latent dimension; 1 is the prior's"}},
        "yaxis": {"title": {"text": "count"}},
    }
    return {"data": [bars], "layout": {**axes, "hovermode": "closest"}}
