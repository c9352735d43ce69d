"""A model from Python: trained on an array, loaded, and used in the array's own values."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import savi
from savi.errors import InputError

SHORT = [
    "trainer.max_epochs=2", "model.hidden=16", "model.latent_dim=4", "logger=csv",
    "trainer.enable_progress_bar=false", "evaluation.importance_samples=10",
    "evaluation.ais_examples=0", "evaluation.gap_examples=0", "evaluation.autoencoder_steps=0",
    "callbacks.figures=false",
]  # fmt: skip


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return load_digits().images.astype(np.uint8)[:200]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("python") / "run"


@pytest.fixture(scope="module")
def model(images, folder) -> savi.TrainedModel:
    return savi.train(["experiment=savi", *SHORT], data=images, folder=folder)


def test_the_best_epoch_of_the_run_is_what_comes_back(model, folder):
    loaded = savi.load(folder)
    for name, weights in model.module.state_dict().items():
        assert torch.equal(loaded.module.state_dict()[name], weights)
    assert json.loads((folder / "status.json").read_text())["state"] == "finished"


def test_its_figures_are_those_of_the_run(model, images, folder):
    """The test split is encoded to the bound that the run reports, within Monte Carlo error."""
    metrics = json.loads((folder / "metrics.json").read_text())
    assert np.array_equal(np.load(folder / "data.npy"), images)
    mean = float(model.elbo(images, samples=20).mean())
    assert abs(mean - metrics["test/elbo"]) < 0.1 * abs(metrics["test/elbo"]) + 10


def test_what_it_gives_has_the_shape_and_the_scale_of_the_data(model, images):
    """A level k is seen as (k + U)/256 less the mean."""
    again = model.reconstruct(images)
    assert again.shape == images.shape
    codes = model.encode(images).mean
    with torch.no_grad():
        seen = model.module.vae.decode(codes).double() + model.form.preprocessing.units.centre
    expected = (256 * seen - 0.5).float().reshape(images.shape)
    torch.testing.assert_close(again, expected, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(model.decode(codes).squeeze(1), again)


def test_samples_are_examples(model):
    drawn = model.sample(5)
    assert drawn.shape == (5, 1, 8, 8)
    assert torch.equal(drawn, model.sample(5))
    assert not torch.equal(drawn, model.sample(5, seed=1))


def test_refinement_raises_the_bound(model, images):
    amortised, refined = (model.elbo(images, samples=50, refine=r).mean() for r in (False, True))
    assert refined > amortised
    assert model.log_likelihood(images, samples=50).mean() > refined - 0.5
    assert not torch.equal(model.encode(images).mean, model.encode(images, refine=False).mean)


def test_the_best_posterior_comes_with_its_certificate(model, images):
    best = model.refine(images[:10])
    assert best.certificate.converged.all()
    assert (best.certificate.min_curvature > 0).all()
    assert best.posterior.mean.shape == (10, 4)


def test_any_number_of_examples_in_batches(model, images, monkeypatch):
    """Deterministic parts do not depend on how the examples are batched."""
    whole = model.encode(images, refine=False)
    monkeypatch.setattr(model, "batch_size", 7)
    parts = model.encode(images, refine=False)
    torch.testing.assert_close(parts.mean, whole.mean)
    assert model.elbo(images[:20], samples=2).shape == (20,)
    assert model.refine(images[:8], max_steps=3).certificate.value.shape == (8, 8)


def test_a_model_without_an_encoder_only_refines(images, tmp_path):
    model = savi.train(
        ["experiment=svi", *SHORT, "trainer.max_epochs=1"], data=images[:60], folder=tmp_path / "s"
    )
    assert model.encode(images[:3]).mean.shape == (3, 4)
    with pytest.raises(InputError, match="has no encoder"):
        model.encode(images[:3], refine=False)


@pytest.mark.parametrize(
    ("words", "options", "message"),
    [
        (["data=digits"], {"data": np.zeros((9, 2))}, "'data=digits' names other data"),
        (["modle.hidden=3"], {}, "modle"),
        (["experiment=nonsense"], {}, "choose one of"),
        (["trainer.replicas=2"], {}, "use savi-train"),
        ([], {"data": np.array([["a"]])}, "type"),
    ],
)
def test_what_makes_no_run_is_refused_and_leaves_nothing(tmp_path, words, options, message):
    with pytest.raises(InputError, match=message):
        savi.train([*words, *SHORT], folder=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_folder_with_other_data_is_refused(folder, model):
    with pytest.raises(InputError, match="holds a run on other data"):
        savi.train(SHORT, data=np.zeros((9, 2), dtype=np.float32), folder=folder)
