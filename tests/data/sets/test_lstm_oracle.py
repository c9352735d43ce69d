"""The oracle's sequences, its probabilities, and the LSTM decoder as the oracle itself."""

from itertools import product

import pytest
import torch

from savi.config.schema import with_defaults
from savi.data import TensorDataModule
from savi.data.sets.lstm_oracle import evidence, log_likelihood, lstm_oracle
from savi.errors import InputError
from savi.vae.build import build_vae

SMALL = {"n": 300, "length": 3, "levels": 4, "hidden": 3, "code_scale": 2.0}


def test_the_probabilities_of_all_sequences_add_up_to_one():
    truth = lstm_oracle(**SMALL).truth
    assert truth is not None
    every = torch.tensor(list(product(range(4), repeat=3)))
    z = torch.tensor([[0.4, -1.3]]).double().expand(len(every), -1)
    total = log_likelihood(truth, every, z).logsumexp(0)
    torch.testing.assert_close(total, torch.zeros(()).double(), rtol=0, atol=1e-12)
    by_quadrature = evidence(truth, every)
    torch.testing.assert_close(
        by_quadrature.exp().sum(), torch.ones(()).double(), rtol=0, atol=1e-6
    )


def test_sequences_have_the_probabilities_of_the_truth():
    raw = lstm_oracle(**SMALL | {"n": 4_000, "length": 2})
    assert raw.truth is not None
    every = torch.tensor(list(product(range(4), repeat=2)))
    p = evidence(raw.truth, every).exp()
    counts = torch.stack([(raw.train.values == one).all(1).double().mean() for one in every])
    assert ((counts - p).abs() < 4.5 * (p * (1 - p) / 4_000).sqrt()).all()
    again = lstm_oracle(**SMALL | {"n": 4_000, "length": 2})
    assert torch.equal(again.train.values, raw.train.values)
    assert not torch.equal(
        lstm_oracle(**SMALL, seed=1).train.values, lstm_oracle(**SMALL).train.values
    )


def test_the_decoder_can_be_the_oracle():
    """With its weights log p(x|z) of a savi model is the oracle's own."""
    raw = lstm_oracle(**SMALL)
    truth = raw.truth
    assert truth is not None
    group = {"decoder": "lstm", "latent_dim": 2, "hidden": 3, "likelihood": "categorical"}
    model = build_vae(with_defaults("model", group), (3,), 1.0, levels=4).double()
    decoder = model.decoder
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.zero_()
        decoder.words[torch.tensor([0, 1, 2, 3, 5])] = truth["words"]
        decoder.inputs.weight.copy_(truth["inputs"])
        decoder.cell.recurrent.copy_(truth["recurrent"])
        decoder.cell.bias.copy_(truth["bias"])
        decoder.head.weight.copy_(torch.cat([truth["head"], truth["code"]], dim=1))
        decoder.head.bias.copy_(truth["head_bias"])
        words, z = raw.train.values[:20], torch.randn(20, 2).double()
        x = words.double() / 3
        found = model.likelihood(x, model.given(x).decode(z[None]))[0][0]
    torch.testing.assert_close(found, log_likelihood(truth, words, z))


def test_a_data_module_serves_levels_as_they_are():
    data = TensorDataModule("lstm_oracle", options=SMALL, dequantise=False, centre=False)
    data.setup()
    assert (data.levels, data.shape, data.sequences, data.padded) == (4, (3,), True, False)
    assert torch.equal((data.split("train") * 3).round() / 3, data.split("train"))
    again = TensorDataModule("lstm_oracle", options=SMALL, dequantise=False, centre=False)
    again.load_state_dict(data.state_dict())
    again.setup()
    assert again.known
    for key, value in (("dequantise", True), ("centre", True), ("scale", "global")):
        options = {"dequantise": False, "centre": False} | {key: value}
        with pytest.raises(InputError, match=rf"which are sequences, with data.{key}.*: set"):
            TensorDataModule("lstm_oracle", options=SMALL, **options).setup()


@pytest.mark.parametrize("option", ["n", "length", "levels", "hidden", "code_scale"])
def test_sizes_out_of_range_are_refused(option: str):
    with pytest.raises(InputError, match=f"data.options.{option} is 0: set"):
        lstm_oracle(**SMALL | {option: 0})
