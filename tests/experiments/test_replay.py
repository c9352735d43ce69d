"""A step that was left out is repeated, number by number, and shown."""

import math

import numpy as np
import pytest
import torch
from bad_steps import breaking

from savi.cli import train as savi_train
from savi.errors import InputError
from savi.experiments.replay import replay
from savi.experiments.run import train
from savi.inference.outer_loss import OuterLoss
from savi.report.table import plain_text

SMALL = (
    "data.limit=160", "data.batch_size=16", "model.hidden=8", "model.latent_dim=2",
    "model.depth=1", "trainer.threads=1", "trainer.accelerator=cpu",
    "trainer.limit_train_batches=4", "trainer.limit_val_batches=1", "trainer.max_epochs=1",
    "trainer.max_bad_steps=0", "trainer.log_every_n_steps=1", "logger=csv",
    "callbacks.figures=false",
    "evaluation.ais_examples=0", "evaluation.gap_examples=0", "evaluation.autoencoder_steps=0",
)  # fmt: skip

pytestmark = [
    pytest.mark.filterwarnings("ignore:most inner solves diverge"),
    pytest.mark.filterwarnings("ignore::savi.gradients.ImplicitGradientWarning"),
]


@pytest.mark.parametrize("experiment", ["savi_ift", "svi", "savi"])
def test_the_very_step_is_repeated(config, tmp_path, monkeypatch, experiment):
    seen = []
    with monkeypatch.context() as patch:
        patch.setattr(OuterLoss, "__call__", breaking({3: "loss"}, seen=seen))
        with pytest.raises(FloatingPointError, match="a training step had to be left out"):
            train(config(*SMALL, f"experiment={experiment}", "inner.max_steps=3"), tmp_path / "run")
    repeated = replay(tmp_path / "run" / "bad_step.ckpt")
    # The same weights, examples, starts and noise: the same number, before it was broken.
    assert float(repeated.step.loss.detach()) == seen[3]
    assert "the loss is inf. Here all is finite" in repeated.summary()
    titles = [table.title for table in repeated.tables()]
    assert titles == [
        "Terms of the loss", "Inner solves", "Examples with the lowest ELBO", "Gradients",
    ]  # fmt: skip


@pytest.fixture
def failed(config, tmp_path):
    """A run on data of which an example is far out of range."""
    x = np.random.default_rng(0).normal(size=(200, 6))
    x[:, 2] *= 1e21
    np.save(tmp_path / "x.npy", x)
    overrides = (
        *SMALL, "experiment=laplace_ift", "data=arrays", f"data.path={tmp_path / 'x.npy'}",
    )  # fmt: skip
    with pytest.raises(FloatingPointError, match="had to be left out"):
        train(config(*overrides), tmp_path / "run")
    return tmp_path / "run" / "bad_step.ckpt"


def test_the_command_shows_where_it_is_not_finite(failed, command, capsys, tmp_path):
    before = set(tmp_path.iterdir())
    capsys.readouterr()
    command(savi_train, f"replay={failed}")
    told = capsys.readouterr().out
    assert "The run left out step 0 of epoch 1: the loss is nan. Here the loss is nan." in told
    assert "16 of 16: 0, 1, 2, 3, 4, 5, 6, 7, …" in told
    assert "diverged" in told
    assert "inference.encoder.head.bias" in told
    # No run has begun.
    assert set(tmp_path.iterdir()) == before
    tables = {table.title: plain_text(table) for table in replay(failed).tables()}
    assert math.isnan(float(replay(failed).step.loss.detach()))
    assert "squared error" in tables["Terms of the loss"]


def test_a_factorisation_that_fails_is_located(failed, monkeypatch):
    monkeypatch.setattr(OuterLoss, "__call__", breaking({0: "factorisation"}))
    repeated = replay(failed)
    assert "Here a factorisation fails: linalg.cholesky" in repeated.summary()
    assert "(outer_loss, bad_steps.py:" in repeated.summary()
    assert [table.title for table in repeated.tables()] == ["Gradients"]


def test_what_cannot_be_replayed_is_refused(failed, command, capsys, monkeypatch):
    for words, message in (
        ((f"replay={failed}", "seed=1"), "replay with seed=1: the step is repeated with the"),
        (("replay=nothing.ckpt",), "checkpoint 'nothing.ckpt' does not exist"),
    ):
        with pytest.raises(SystemExit) as exit_:
            command(savi_train, *words)
        assert exit_.value.code == 2
        assert message in capsys.readouterr().err
    checkpoint = torch.load(failed, weights_only=True)
    gpu = {**checkpoint["savi_step"], "device": "cuda"}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    torch.save(checkpoint | {"savi_step": gpu}, failed)
    with pytest.raises(InputError, match="drew its noise on a CUDA GPU"):
        replay(failed)
    del checkpoint["savi_step"]
    weights = checkpoint["state_dict"]
    checkpoint["state_dict"] = {name: value.nan_to_num() for name, value in weights.items()}
    torch.save(checkpoint, failed)
    with pytest.raises(InputError, match=r"holds no training step: give the bad_step\.ckpt"):
        replay(failed)
