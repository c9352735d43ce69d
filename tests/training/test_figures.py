"""The figures of a run."""

import pytest
import torch

from savi.training.figures import inner_trace, run_figures
from savi.training.run import build

SMALL = ("data.limit=24", "model.hidden=8", "model.latent_dim=2", "logger=csv")


@pytest.mark.parametrize("experiment", ["savi_ift", "savi_unrolled", "vlae"])
def test_the_trace_ends_where_inference_ends(config, experiment):
    data, module = build(config(*SMALL, f"experiment={experiment}"))
    x = data.split("test")[:8]
    elbo, stationarity = inner_trace(module, x)
    steps = module.inference.test_max_steps
    assert elbo.shape == stationarity.shape == (steps + 1, 8)
    assert (stationarity[0] == 1).all()
    inference = module.inference(
        module.vae, x, max_steps=steps, generator=torch.Generator().manual_seed(module.seed)
    )
    torch.testing.assert_close(stationarity[-1], inference.solution.stationarity)
    assert elbo[-1].mean() > elbo[0].mean()


def test_a_run_without_inner_steps_has_figures_too(config):
    data, module = build(config(*SMALL, "experiment=vae"))
    figures = run_figures(module, data, curves=None)
    assert set(figures) == {"data", "reconstructions", "prior_samples"}
    elbo, _ = inner_trace(module, data.split("test")[:8])
    assert elbo.shape == (1, 8)
