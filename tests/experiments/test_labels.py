"""``model.condition=labels``: a run, and its model in use."""

import json

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import savi
from savi.data import TensorDataModule
from savi.data.batches import as_batch
from savi.data.sets.digits import digits
from savi.errors import InputError
from savi.training import SemiAmortizedVAE

SHORT = (
    "experiment=savi", "model.condition=labels", "data=digits", "data.limit=60",
    "trainer.max_epochs=1", "model.hidden=8", "model.latent_dim=2", "logger=csv",
    "trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "callbacks.figures=false",
    "evaluation.importance_samples=10", "evaluation.ais_examples=2", "evaluation.ais_chains=2",
    "evaluation.ais_steps=5", "evaluation.gap_examples=4", "evaluation.gap_steps=5",
    "evaluation.autoencoder_steps=5",
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels") / "run"
    return savi.train([*SHORT], folder=folder), folder


def test_a_model_is_used_with_labels(trained):
    model, folder = trained
    raw = digits().train
    values, labels = raw.values[:12], raw.labels[:12]
    assert np.isfinite(json.loads((folder / "metrics.json").read_text())["test/nll"])
    again = savi.load(folder)
    torch.testing.assert_close(again.elbo(values, labels=labels), model.elbo(values, labels=labels))
    others = (labels + 1) % 10
    assert not torch.equal(
        model.encode(values, labels=labels).mean, model.encode(values, labels=others).mean
    )
    assert model.reconstruct(values, labels=labels).shape == values.shape
    ones = model.sample(3, labels=[1, 1, 1], seed=1)
    assert not torch.equal(ones, model.sample(3, labels=[2, 2, 2], seed=1))
    assert torch.equal(ones, model.sample(3, labels=np.ones(3, dtype=int), seed=1))
    assert model.refine(values, labels=labels, max_steps=2).posterior.mean.shape == (12, 2)
    assert model.log_likelihood(values, labels=labels, samples=10).shape == (12,)


@pytest.mark.parametrize("labels", [None, [0, 1], [0, 1, 10], [0.0, 1.0, 2.0], [-1, 0, 1]])
def test_labels_that_cannot_be_are_refused(trained, labels):
    with pytest.raises(InputError, match=r"give .*3 whole numbers from 0 to 9"):
        trained[0].sample(3, labels=labels)


def test_a_model_without_labels_refuses_them(trained):
    model = SemiAmortizedVAE(data_shape=(64,), model={"hidden": 4})
    plain = savi.TrainedModel(model, trained[0].form)
    with pytest.raises(InputError, match="labels: this model was trained without them"):
        plain.sample(3, labels=[0, 1, 2])


def test_data_without_labels_are_refused():
    data = TensorDataModule("linear_gaussian", options={"n": 40})
    data.labelled = True
    with pytest.raises(InputError, match=r"have no labels.*set model.condition=no"):
        data.setup()


def test_rows_have_their_labels_behind_them():
    data = TensorDataModule("digits", limit=20, batch_size=8)
    data.labelled = True
    data.setup()
    assert data.rows("train").shape == (20, 65)
    assert torch.equal(data.rows("val")[:, :64], data.split("val"))
    for split in ("train", "val"):
        assert torch.equal(data.rows(split)[:, 64].long(), data.labels(split))
    batch = next(iter(data.train_dataloader()))
    assert torch.equal(batch.x[:, 64].long(), data.labels("train")[batch.index])


def test_batches_of_another_loader_hold_the_labels_second():
    x, labels = torch.rand(4, 6), torch.tensor([0, 1, 1, 0])
    (batch,) = DataLoader(TensorDataset(x, labels), batch_size=4)
    assert torch.equal(as_batch(batch, (6,), True).x, torch.cat([x, labels[:, None]], 1))
    with pytest.raises(InputError, match="give examples and labels"):
        as_batch(x, (6,), True)
