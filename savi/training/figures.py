"""The figures of a run, computed from its model and its data."""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from savi.data import TensorDataModule
from savi.evaluation.importance import expected_bound
from savi.report.figures import (
    elbo_against_inner_step,
    image_grid,
    learning_curves,
    prior_samples,
    read_metrics,
    reconstructions,
)
from savi.training.module import SemiAmortizedVAE

#: Examples in the figure of the inner steps, and points on its axis at most.
TRACED_EXAMPLES, TRACED_STEPS = 64, 50

#: Examples in a grid: six by six.
SHOWN = 36


@torch.no_grad()
def inner_trace(module: SemiAmortizedVAE, x: Tensor) -> tuple[Tensor, Tensor]:
    """L(λk) and relative stationarity at k = 0, …, K, each of shape [K+1, B].

    K is the number of test steps, at most 50. Every λk is computed from the start with the same
    noise; the bound's own noise is another, the same for all k.
    """
    elbos, norms = [], []
    for k in range(min(module.inference.test_max_steps, TRACED_STEPS) + 1):
        noise = torch.Generator().manual_seed(module.seed)
        inference = module.inference(module.vae, x, max_steps=k, generator=noise)
        q = module.family.distribution(inference.value, module.vae)
        fixed = torch.Generator().manual_seed(module.seed + 1)
        elbos.append(expected_bound(module.vae, q, x, 64, fixed).elbo)
        solution = inference.solution
        norms.append(torch.ones_like(elbos[0]) if solution is None else solution.stationarity)
    return torch.stack(elbos), torch.stack(norms)


@torch.no_grad()
def run_figures(
    module: SemiAmortizedVAE, data: TensorDataModule, curves: Path | None
) -> dict[str, Figure]:
    """Data, reconstructions at λ0 and λK, prior samples, inner steps, and the learning curves."""
    x = data.split("test")[:TRACED_EXAMPLES].to(module.device)
    generator = torch.Generator().manual_seed(module.seed)
    inference = module.inference(
        module.vae, x, max_steps=module.inference.test_max_steps, generator=generator
    )
    d = module.family.latent_dim
    start = module.vae.decode(inference.init[:, :d])
    final = start if inference.solution is None else module.vae.decode(inference.value[:, :d])
    samples = module.vae.sample(SHOWN, generator)
    figures = {
        "data": image_grid(x[:SHOWN], "Test data", shape=data.shape, mean=data.mean),
        "reconstructions": reconstructions(x, start, final, data.mean, data.shape),
        "prior_samples": prior_samples(samples, data.mean, data.shape),
    }
    if module.inference.test_max_steps > 0:
        figures["inner_steps"] = elbo_against_inner_step(*inner_trace(module, x))
    if curves is not None and curves.is_file():
        figures["learning_curves"] = learning_curves(read_metrics(curves))
    return figures
