"""The decoders that a study compares with."""

import importlib
import sys

import pytest
import torch

from savi.config.schema import with_defaults
from savi.data.sets.lstm_oracle import log_likelihood, lstm_oracle
from savi.vae import DECODERS
from savi.vae.build import build_vae


@pytest.fixture(autouse=True)
def networks(monkeypatch):
    """The module, whose decoders no other test sees."""
    monkeypatch.setattr(DECODERS, "_entries", dict(DECODERS._entries))
    monkeypatch.delitem(sys.modules, "study.networks", raising=False)
    yield importlib.import_module("study.networks")
    sys.modules.pop("study.networks")


def model(name, hidden, levels, length):
    torch.manual_seed(0)
    group = {"decoder": name, "latent_dim": 2, "hidden": hidden, "likelihood": "categorical",
             "word_dropout": None}  # fmt: skip
    return build_vae(with_defaults("model", group), (length,), 1.0, levels=levels).double()


def log_p(vae, words, z, levels):
    x = words.double() / (levels - 1)
    return vae.likelihood(x, vae.given(x).decode(z[None]))[0][0]


def test_the_oracle_is_the_truth_and_stays_it(networks):
    raw = lstm_oracle(n=20, levels=4, hidden=3, length=3)
    vae = model("lstm_oracle", 3, 4, 3)
    assert isinstance(vae.decoder, networks.Oracle)
    words, z = raw.train.values, torch.randn(20, 2).double()
    expected = log_likelihood(raw.truth, words, z)
    # Its weights were kept in single precision.
    torch.testing.assert_close(log_p(vae, words, z, 4), expected, rtol=0, atol=1e-5)
    assert not any(parameter.requires_grad for parameter in vae.decoder.parameters())


def test_a_language_model_reads_nothing_of_the_code(networks):
    vae = model("lstm_without_code", 3, 4, 3)
    assert isinstance(vae.decoder, networks.LanguageModel)
    words = torch.randint(4, (5, 3))
    one, other = (log_p(vae, words, torch.randn(5, 2).double(), 4) for _ in range(2))
    torch.testing.assert_close(one, other)
