"""Ones and zeros in the place of pixel levels."""

import numpy as np
import pytest
import torch

from savi.data import TensorDataModule
from savi.data.form import Form
from savi.data.suitability import few_values, require_support
from savi.errors import InputError


def binary(binarise: str = "dynamic", **options) -> TensorDataModule:
    data = TensorDataModule(
        "digits", binarise=binarise, dequantise=False, centre=False, limit=200, **options
    )
    data.setup()
    return data


def epochs(data: TensorDataModule, count: int) -> torch.Tensor:
    """The training examples, in their own order, at so many visits."""
    loader = data.train_dataloader()
    visits = []
    for epoch in range(count):
        loader.sampler.set_epoch(epoch)
        batches = list(loader)
        index = torch.cat([batch.index for batch in batches])
        visits.append(torch.cat([batch.x for batch in batches])[index.argsort()])
    return torch.stack(visits)


def test_a_dynamic_draw_is_new_at_every_visit_with_the_pixels_probabilities():
    data = binary()
    x = epochs(data, 60)
    assert ((x == 0) | (x == 1)).all()
    assert not torch.equal(x[0], x[1])
    probability = data._datasets["train"].values.float() / 16
    error = (x.mean(0) - probability).abs()
    assert (error <= 5.0 * (probability * (1 - probability) / 60).sqrt() + 1e-6).all()
    assert torch.equal(epochs(data, 1)[0], x[0])
    expected = (probability.double().mean(0) * (1 - probability.double().mean(0))).mean()
    assert data.variance == pytest.approx(float(expected))
    assert data.log_levels == 0.0
    assert torch.equal(data.mean, torch.zeros(64))


def test_a_static_draw_is_one_for_good():
    x = epochs(binary("static"), 3)
    assert ((x == 0) | (x == 1)).all()
    assert torch.equal(x[0], x[1])
    assert torch.equal(x[0], x[2])


@pytest.mark.parametrize("binarise", ["dynamic", "static"])
def test_the_other_splits_never_change_and_outlive_a_checkpoint(binarise: str):
    data = binary(binarise)
    again = binary(binarise)
    again.load_state_dict(data.state_dict())
    again.setup()
    for split in ("val", "test"):
        assert torch.equal(data.split(split), again.split(split))
    assert again.units.binary


def test_binary_data_stay_as_they_are(tmp_path):
    values = np.random.default_rng(0).integers(0, 2, (60, 5)).astype(np.float32)
    np.save(tmp_path / "mine.npy", values)
    options = {"path": str(tmp_path / "mine.npy"), "dequantise": False, "centre": False}
    drawn = TensorDataModule("arrays", binarise="dynamic", **options)
    plain = TensorDataModule("arrays", **options)
    assert torch.equal(drawn.split("train"), plain.split("train"))
    require_support(plain, "bernoulli", "binary")
    form = Form(drawn.preprocessing)
    assert torch.equal(form.restored(form.seen(values)), torch.from_numpy(values))


def test_means_come_back_as_levels():
    form = Form(binary().preprocessing)
    shown = form.restored(torch.full((1, 64), 0.5))
    assert torch.equal(shown, torch.full((1, 1, 8, 8), 8.0))


def test_values_that_are_no_probabilities_are_refused(tmp_path):
    np.save(tmp_path / "mine.npy", 3.0 * np.random.default_rng(0).random((60, 5)))
    data = TensorDataModule(
        "arrays",
        path=str(tmp_path / "mine.npy"),
        binarise="static",
        dequantise=False,
        centre=False,
    )
    with pytest.raises(InputError, match=r"'arrays' hold values from .* no probabilities: bring"):
        data.setup()


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"centre": True}, "with data.centre, which makes ones and zeros of them: set data.centre"),
        ({"dequantise": True}, "data.dequantise=false, or data.binarise=none"),
        ({"scale": "global"}, "set data.scale=none"),
        ({"binarise": "sometimes"}, "sometimes"),
    ],
)
def test_what_contradicts_it_is_refused(setting: dict, said: str):
    options = {"binarise": "dynamic", "centre": False, "dequantise": False} | setting
    with pytest.raises(InputError, match=said):
        TensorDataModule("digits", **options)


def test_data_of_another_kind_than_the_likelihoods_are_refused():
    grey = TensorDataModule("digits", dequantise=False, centre=False, limit=50)
    with pytest.raises(InputError, match=r"'bernoulli' is for ones and zeros.*data.binarise=dyn"):
        require_support(grey, "bernoulli", "binary")
    require_support(grey, "mine", "unit")
    require_support(binary(), "bernoulli", "binary")
    words = TensorDataModule("lstm_oracle", dequantise=False, centre=False, limit=50)
    require_support(words, "categorical", "levels")
    with pytest.raises(InputError, match=r"'mine' with data 'lstm_oracle', which are sequences"):
        require_support(words, "mine", "levels", ordinal=True)
    centred = TensorDataModule("digits", limit=50)
    require_support(centred, "gaussian", "real")
    with pytest.raises(InputError, match=r"'mine' is for numbers in .0, 1., and the train data of"):
        require_support(centred, "mine", "unit")


def test_a_density_of_ones_and_zeros_is_warned_of():
    told = few_values(binary(), gamma_is_free=True)
    assert told is not None
    assert "only the values 0 and 1" in told
