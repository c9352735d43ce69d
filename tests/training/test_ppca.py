"""A run on linear-Gaussian data reaches the optimum that is known in closed form."""

import json

import pytest
import torch

from savi.data import covariance_eigenvalues
from savi.experiments.build import build
from savi.experiments.checkpoint import load_weights
from savi.experiments.run import train


def average_log_likelihood(covariance, model_covariance) -> torch.Tensor:
    """(1/N) Σ log N(x; mean, C) for centred data with the given 1/N covariance."""
    d = len(covariance)
    return -0.5 * (
        d * torch.log(torch.tensor(2 * torch.pi))
        + torch.logdet(model_covariance)
        + torch.linalg.solve(model_covariance, covariance).trace()
    )


@pytest.mark.slow
def test_ppca_reaches_its_optimum_and_prunes(config, tmp_path):
    off = ("ais_examples=0", "gap_examples=0", "autoencoder_steps=0", "importance_samples=8")
    brief = [f"evaluation.{key}" for key in (*off, "val_samples=8")]
    # A quarter of the steps, each twice as long, by gradients of four times the examples.
    fast = ("data.batch_size=512", "optimizer.lr=2.0e-2")
    values = config("experiment=ppca", "logger=csv", "callbacks.figures=false", *brief, *fast)
    train(values, tmp_path)
    data, module = build(values)
    load_weights(module, tmp_path / "checkpoints" / "best.ckpt")

    x = data.split("train").double()
    covariance = x.T @ x / len(x)
    eigenvalues = covariance_eigenvalues(x)
    gamma = float(module.vae.gamma())
    weight = module.vae.decoder.head.weight.detach().double()
    kept = eigenvalues > gamma
    assert 0 < kept.sum() < module.vae.latent_dim

    # The optimum at fixed γ: squared column norms max(0, λ_i − γ) along the principal axes.
    _, axes = torch.linalg.eigh(covariance)
    axes = axes.flip(1)[:, kept]
    identity = gamma * torch.eye(len(covariance)).double()
    best = axes @ torch.diag(eigenvalues[kept] - gamma) @ axes.T + identity
    optimum = average_log_likelihood(covariance, best)
    reached = average_log_likelihood(covariance, weight @ weight.T + identity)
    assert reached <= optimum + 1e-9
    assert (optimum - reached) / optimum.abs() < 0.01

    # Exactly the dimensions with λ_i ≤ γ are pruned, and the others have their closed-form norms.
    norms = weight.square().sum(dim=0).sort(descending=True).values
    expected = torch.zeros_like(norms)
    expected[: int(kept.sum())] = (eigenvalues - gamma)[kept]
    torch.testing.assert_close(norms, expected, rtol=0.05, atol=0.02)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["test/active_units"] == kept.sum()
