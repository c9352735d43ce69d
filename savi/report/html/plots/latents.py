"""How much the latent dimensions are used."""

from __future__ import annotations

from typing import Any

import numpy as np

from savi.report.html.plots.base import Plot, colour, numbers, titled
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
        "x": list(range(1, len(order) + 1)),
        "y": numbers(np.asarray(verdict.kl_per_dimension)[order]),
        "customdata": order.tolist(),
        "marker": {"color": colour(0)},
        "hovertemplate": "%{y:.4g} nats, dimension %{customdata}<extra></extra>",
    }
    return _plot(bars, "rank", "nats")


def _sigma(verdict: Verdict) -> Plot:
    edges = np.asarray(verdict.sigma_edges)
    bars = {
        "x": numbers((edges[:-1] + edges[1:]) / 2),
        "y": numbers(verdict.sigma_counts),
        "width": numbers(np.diff(edges)),
        "marker": {"color": colour(1)},
        "hovertemplate": "%{y:,} near σ = %{x:.2f}<extra></extra>",
    }
    return _plot(bars, "σ of a latent dimension; 1 is the prior's", "count")


def _plot(bars: dict[str, Any], x: str, y: str) -> Plot:
    axes = {"xaxis": titled(x), "yaxis": titled(y)}
    return {"data": [{"type": "bar", **bars}], "layout": {**axes, "hovermode": "closest"}}
