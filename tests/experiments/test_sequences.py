"""Runs on text and on an oracle's sequences, and a loaded model of text."""

import json
import math
from pathlib import Path

import pytest
import torch

import savi
from savi.errors import InputError

SHORT = (
    "model=lstm", "trainer.max_epochs=1", "model.hidden=4", "model.latent_dim=2", "logger=csv",
    "trainer.accelerator=cpu", "trainer.enable_progress_bar=false",
    "evaluation.importance_samples=20", "evaluation.gap_examples=0", "evaluation.ais_examples=0",
)  # fmt: skip
PAIRS = (("cat", "dog"), ("dog", "bird"), ("bird", "cat"))
LINES = [
    f"the {kind} {one} {does} the {other}"
    for one, other in PAIRS
    for does in ("sees", "hears", "finds")
    for kind in ("old", "small", "very old", "red")
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    (folder / "lines.txt").write_text("\n".join(LINES))
    words = [
        *SHORT, "data=text", f"data.path={folder / 'lines.txt'}", "data.options.length=7",
        "experiment=savi_unrolled", "inner.max_steps=2", "model.word_dropout=0.2",
        "callbacks.media_every_n_epochs=null",
    ]  # fmt: skip
    return savi.train(words, folder=folder / "run"), folder / "run"


def test_a_run_on_text_has_the_figures_of_sequences(trained):
    metrics = json.loads((trained[1] / "metrics.json").read_text())
    for key in ("elbo", "reconstruction", "kl", "nll"):
        assert math.isfinite(metrics[f"test/{key}"])
    assert not {"test/bits_per_dim", "test/squared_error"} & set(metrics)
    model = trained[0]
    assert 1.0 < metrics["test/perplexity"] < 2 * len(model.form.vocabulary.words)
    assert (trained[1] / "figures" / "prior_samples.png").is_file()


def test_a_loaded_model_reads_and_writes_lines(trained):
    model, folder = trained
    again = savi.load(folder)
    torch.testing.assert_close(again.elbo(LINES[:4]), model.elbo(LINES[:4]))
    levels = model.form.vocabulary.encode(LINES[:4], 7)
    assert torch.equal(model.encode(levels).mean, model.encode(LINES[:4]).mean)
    drawn = model.sample(5, seed=1)
    assert torch.equal(drawn, model.sample(5, seed=1))
    assert drawn.shape == (5, 7)
    after = (drawn == 0).long().cumsum(1) - (drawn == 0).long() > 0
    assert torch.equal(drawn < 0, after)
    assert len(model.form.vocabulary.decode(model.reconstruct(LINES[:2]))) == 2
    assert model.reconstruct(levels).shape == levels.shape


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([], "give lines of text, each with a word"),
        (["", "a"], "give lines of text, each with a word"),
        (torch.full((1, 7), 99), "the run had .* words: give integers from 0 to"),
        (torch.tensor([[0, -1, 1, 1, 1, 1, 1]]), "go on after a −1"),
        (torch.zeros(2, 7), "have type torch.float32"),
    ],
)
def test_examples_unlike_text_are_refused(trained, values, said: str):
    with pytest.raises(InputError, match=said):
        trained[0].encode(values)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model.likelihood=gaussian", "model.decoder=mlp"], "'gaussian' with data 'text'.*: set"),
        (["model.decoder=mlp"], "'mlp' with data 'text', whose sequences have different lengths"),
    ],
)  # fmt: skip
def test_models_of_other_data_are_refused(trained, tmp_path: Path, words: list[str], said: str):
    path = f"data.path={trained[1].parent / 'lines.txt'}"
    with pytest.raises(InputError, match=said):
        savi.train(["data=text", path, "model.encoder=mlp", "model.likelihood=categorical", *words],
                   folder=tmp_path / "run")  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["inner.compile=true"], "'lstm' with inner.compile, which would compile every step"),
        (["model.word_dropout=0.1", "callbacks.gradient_check_every_n_steps=5"], "differ: set"),
        (["model.encoder=mlp", "model.likelihood=bernoulli"], "'bernoulli'"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_of_sequences_is_refused(tmp_path: Path, words: list[str], said: str):
    with pytest.raises(InputError, match=said):
        savi.train(["model=lstm", "data=lstm_oracle", "data.options.n=40", "data.val_size=4",
                    "experiment=savi_unrolled", *words], folder=tmp_path / "run")  # fmt: skip
