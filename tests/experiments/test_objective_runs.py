"""Runs with another prior, bound or family, from their words to their use."""

import json
import math

import pytest
import torch

import savi
from savi.data.sets.digits import digits

SMALL = (
    "data.limit=60", "trainer.max_epochs=1", "model.hidden=8", "model.latent_dim=3", "logger=csv",
    "trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "callbacks.figures=false",
    "evaluation.importance_samples=100", "evaluation.ais_examples=1", "evaluation.ais_steps=5",
    "evaluation.gap_examples=2", "evaluation.gap_steps=20",
)  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [
        ("experiment=vae", "model.prior=vamp", "model.objective=dreg", "model.samples=2"),
        pytest.param(
            ("experiment=laplace_ift", "model.prior=mixture", "model.components=2"),
            marks=pytest.mark.long,
        ),
        pytest.param(
            ("experiment=savi_ift", "posterior=flow", "model.prior=mixture"),
            marks=pytest.mark.long,
        ),
    ],
    ids=["vamp", "mixture", "flow"],
)
def test_a_run_measures_what_a_prior_has(words, tmp_path):
    model = savi.train([*words, *SMALL], folder=tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    for key in ("elbo", "nll", "kl", "ais/nll", "gap/inference", "mutual_information"):
        assert math.isfinite(metrics[f"test/{key}"])
    assert metrics["test/gap/failures"] == 0
    difference = metrics["test/ais/nll"] - metrics["test/ais/nll_importance"]
    assert abs(difference) < 5 * metrics["test/ais/standard_error"] + 0.5
    collapse = json.loads((tmp_path / "collapse.json").read_text())
    assert "kl_per_dimension" not in collapse
    assert collapse["metrics"].keys() == {"collapse/pruned_units"}
    assert collapse["kind"] == "none" or "and not of " in collapse["reason"]
    values = digits().train.values[:5]
    again = savi.load(tmp_path)
    torch.testing.assert_close(again.elbo(values), model.elbo(values))
    torch.testing.assert_close(again.sample(4), model.sample(4))
    assert ((again.log_likelihood(values, samples=200) - model.elbo(values)) > -0.5).all()
