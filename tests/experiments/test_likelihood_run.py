"""A run of another likelihood than the Gaussian one, from its words to its use."""

import json
import math

import pytest
import torch

import savi
from savi.data.sets.digits import digits
from savi.evaluation.plausible import not_finite

SMALL = (
    "data.limit=60", "trainer.max_epochs=1", "model.hidden=8", "model.latent_dim=3", "logger=csv",
    "trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "callbacks.figures=false",
    "evaluation.importance_samples=100", "evaluation.ais_examples=2", "evaluation.ais_steps=20",
    "evaluation.gap_examples=4", "evaluation.gap_steps=20",
)  # fmt: skip


@pytest.fixture(scope="module", params=["bernoulli", "continuous_bernoulli", "logistic_mixture"])
def trained(request, tmp_path_factory):
    """A model trained with implicit gradients at a Laplace posterior, and its folder."""
    folder = tmp_path_factory.mktemp("run") / request.param
    words = ["experiment=laplace_ift", f"model.likelihood={request.param}", *SMALL]
    return savi.train(words, folder=folder), folder, request.param


def test_a_run_measures_all_but_what_needs_a_variance(trained):
    _, folder, name = trained
    metrics = json.loads((folder / "metrics.json").read_text())
    for key in ("elbo", "nll", "ais/nll", "gap/inference", "active_units", "collapse/pruned_units"):
        assert math.isfinite(metrics[f"test/{key}"])
    assert metrics["test/gap/failures"] == 0
    assert not [key for key in metrics if "gamma" in key or "linear_error" in key]
    assert ("test/bits_per_dim" in metrics) == (name != "bernoulli")
    difference = metrics["test/ais/nll"] - metrics["test/ais/nll_importance"]
    assert abs(difference) < 5 * metrics["test/ais/standard_error"] + 0.1
    collapse = json.loads((folder / "collapse.json").read_text())
    assert "gamma_ratio" not in str(collapse)
    assert collapse["kind"] == "none" or "why was not judged" in collapse["reason"]
    header = (folder / "metrics.csv").read_text().splitlines()[0]
    assert "train/elbo" in header
    assert "gamma" not in header


def test_a_loaded_model_answers_in_the_data_s_own_levels(trained):
    model, folder, name = trained
    values = digits().train.values[:5]
    for shown in (model.reconstruct(values), model.sample(4)):
        assert float(shown.min()) >= 0.0
        assert float(shown.max()) <= 16.5
        assert shown.shape[1:] == values.shape[1:]
    again = savi.load(folder)
    assert again.module.vae.likelihood.name == name
    torch.testing.assert_close(again.elbo(values), model.elbo(values))
    gain = again.log_likelihood(values, samples=200) - model.elbo(values)
    assert (gain > -0.5).all()
    assert not again.refine(values).certificate.failed.any()


def test_figures_that_no_probability_has_are_absurd():
    metrics = {f"test/{name}": -1.0 for name in ("elbo", "reconstruction", "kl", "squared_error")}
    metrics["test/nll"] = 1.0
    train = torch.zeros(3, 4)
    assert not_finite(metrics, "test", train, probabilities=True) is None
    said = not_finite(metrics | {"test/elbo": 0.1}, "test", train, probabilities=True)
    assert said is not None
    assert "no probability exceeds 1" in said
    assert not_finite(metrics | {"test/elbo": 0.1}, "test", train) is None
    said = not_finite(metrics | {"test/kl": math.nan}, "test", train)
    assert said is not None
    assert "test/kl is nan" in said
