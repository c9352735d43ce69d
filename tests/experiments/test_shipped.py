"""Models that come with the package: by name, small, with a card, and as good as it says."""

import re
import sys

import pytest
import ship
import torch
from sklearn.datasets import load_digits

import savi
from savi.errors import InputError
from savi.experiments import shipped
from savi.experiments.checkpoint import OPTIMIZERS_KEY, read_checkpoint


def digits() -> torch.Tensor:
    return torch.as_tensor(load_digits().images).byte()


def test_the_digits_are_as_good_as_their_card_says():
    """All examples together: those that were trained on are somewhat better than the test ones."""
    card = shipped.shipped()["digits"].with_suffix(".md").read_text("utf-8")
    said = -float(re.search(r"−log p\(x\) \| (\S+)", card).group(1))
    model = savi.load("digits")
    found = float(model.log_likelihood(digits()[:300], samples=100).mean())
    assert said - 3 < found < said + 12


def test_they_are_small_and_hold_no_training():
    for name, file in shipped.shipped().items():
        assert file.stat().st_size < 2e6
        assert file.with_suffix(".md").exists(), name
        assert OPTIMIZERS_KEY not in read_checkpoint(file)
        assert str(file.parents[2]) not in str(read_checkpoint(file)[ship.CONFIG_KEY])


def test_a_path_goes_before_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shipped.located("digits").name == "digits.ckpt"
    (tmp_path / "digits").mkdir()
    with pytest.raises(InputError, match="'digits' is a folder"):
        savi.load("digits")
    with pytest.raises(InputError, match="'letters' does not exist"):
        savi.load("letters")


def test_a_run_becomes_one(tmp_path, monkeypatch):
    words = [
        "experiment=vae", "trainer.max_epochs=1", "model.hidden=8", "model.latent_dim=2",
        "logger=csv", "evaluation.importance_samples=5", "evaluation.ais_examples=0",
        "evaluation.gap_examples=0", "evaluation.autoencoder_steps=0", "callbacks.figures=false",
    ]  # fmt: skip
    images = digits()[:60].numpy()
    trained = savi.train(words, data=images, folder=tmp_path / "run")
    for module in (shipped, ship):
        monkeypatch.setattr(module, "FOLDER", tmp_path / "models")
    monkeypatch.setattr(sys, "argv", ["ship.py", str(tmp_path / "run"), "mine"])
    ship.main()
    assert torch.equal(savi.load("mine").sample(2), trained.sample(2))
    card = (tmp_path / "models/mine.md").read_text("utf-8")
    assert 'savi.load("mine")' in card
    assert "experiment=vae" in card
    assert "2 latents" in card
