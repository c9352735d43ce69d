"""What needs no run, on data of which the answer is known."""

import json

import pytest
from closed_forms import log_likelihood
from study.plan import Block, Study
from study.references import GAMMA, REFERENCES, nll

from savi.data import TensorDataModule
from savi.data.sets.lstm_oracle import evidence

OPTIONS = {"n": 40, "length": 2, "levels": 3, "hidden": 3}


def test_the_truth_is_the_oracles_evidence():
    data = TensorDataModule(
        "lstm_oracle", options=OPTIONS, val_size=8, dequantise=False, centre=False
    )
    data.setup()
    words = (data.split("test") * 2).round().int()
    expected = -float(evidence(data.truth, words).mean())
    assert REFERENCES["truth"](data) == pytest.approx(expected)


def test_the_best_linear_model_of_linear_data_is_the_true_one():
    """On data from a model of fewer codes, with that γ, it is the truth but for the sampling."""
    options = {"n": 20_000, "dim": 8, "latent_dim": 2, "gamma": GAMMA, "eigenvalues": [4.0, 1.0]}
    data = TensorDataModule("linear_gaussian", options=options, dequantise=False, centre=False)
    data.setup()
    true = log_likelihood(data.split("test"), data.truth["W"], data.truth["b"], GAMMA)
    expected = -float(true.mean())
    assert REFERENCES["ppca"](data) == pytest.approx(expected, abs=0.01)


def test_it_is_computed_once(tmp_path, monkeypatch):
    own = [f"data.options.{key}={value}" for key, value in OPTIONS.items()]
    words = ("model=lstm", "model.latent_dim=2", "data=lstm_oracle", "data.val_size=8", *own)
    study = Study((), {"tiny": Block("Tiny", words, {}, (), seeds=1, references=("truth",))})
    found = nll(study, "tiny", "truth", 0, tmp_path)
    assert json.loads((tmp_path / "tiny/truth_0.json").read_text()) == found
    monkeypatch.setitem(REFERENCES, "truth", None)
    assert nll(study, "tiny", "truth", 0, tmp_path) == found
