"""A training on numbers out of range ends in a sentence, whatever broke down first."""

import json
from contextlib import suppress

import numpy as np
import pytest
import torch

from savi.experiments.build import build
from savi.experiments.checkpoint import read_checkpoint
from savi.experiments.run import train
from savi.replicas import train as train_together
from savi.training.divergence import factorised, require_finite

TINY = (
    "data=arrays", "logger=csv", "callbacks.figures=false", "trainer.max_epochs=2",
    "trainer.threads=1", "model.hidden=16", "model.latent_dim=2", "data.batch_size=64",
    "evaluation.ais_examples=0", "evaluation.gap_examples=0", "evaluation.autoencoder_steps=0",
    "evaluation.importance_samples=10",
)  # fmt: skip


@pytest.fixture
def file(tmp_path):
    """A file of continuous data at some scale."""

    def write(scale: float) -> str:
        rng = np.random.default_rng(0)
        x = rng.normal(size=(200, 2)) @ rng.normal(size=(2, 6)) + 0.3 * rng.normal(size=(200, 6))
        np.save(tmp_path / "x.npy", scale * x)
        return f"data.path={tmp_path / 'x.npy'}"

    return write


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:most inner solves diverge")
@pytest.mark.filterwarnings("ignore::savi.gradients.ImplicitGradientWarning")
@pytest.mark.parametrize("experiment", ["vae", "savi", "savi_ift", "laplace_ift", "vlae", "svi"])
def test_each_method_names_the_scale_or_ends_well(config, file, tmp_path, capsys, experiment):
    method = (*TINY, f"experiment={experiment}", file(1e20))
    if experiment != "svi":
        with pytest.raises(FloatingPointError, match=r"data\.scale"):
            train(config(*method), tmp_path / "none")
        record = json.loads((tmp_path / "none" / "status.json").read_text())
        assert record["state"] == "failed"
        assert not (tmp_path / "none" / "error.txt").exists()
    warned = capsys.readouterr().err
    assert experiment == "svi" or "set data.scale=global" in warned
    metrics = train(config(*method, "data.scale=global"), tmp_path / "global")
    assert np.isfinite(list(metrics.values())).all()
    assert -12 < metrics["test/elbo"] < -4
    assert "data.scale" not in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:most inner solves diverge")
def test_replicas_end_in_a_sentence_too(config, file, tmp_path):
    method = (*TINY, "experiment=vlae", file(1e20), "trainer.replicas=2")
    with pytest.raises(FloatingPointError, match=r"in epoch 1, likely because .*data\.scale"):
        train_together(config(*method), tmp_path / "runs")
    for seed in (0, 1):
        record = json.loads((tmp_path / "runs" / f"seed-{seed}" / "status.json").read_text())
        assert record["state"] == "failed"


@pytest.mark.parametrize(("experiment", "told"), [("savi", True), ("vae_svi", False)])
def test_a_step_on_trust_is_a_suspect(config, file, experiment, told):
    data, module = build(config(*TINY, file(1.0), f"experiment={experiment}"))
    require_finite(module, 0, data)
    with torch.no_grad():
        next(module.vae.decoder.parameters()).fill_(torch.nan)
    with pytest.raises(FloatingPointError, match=r"lower optimizer\.lr") as caught:
        require_finite(module, 0, data)
    assert ("inner.last_step=judged" in str(caught.value)) == told


def test_a_matrix_without_factors_is_explained(config, file):
    data, _ = build(config(*TINY, file(1e5)))
    with (
        pytest.raises(FloatingPointError, match=r"in epoch 3, likely because the training data"),
        factorised(data, lambda: 2),
    ):
        torch.linalg.cholesky(-torch.eye(2))
    data, _ = build(config(*TINY, file(1.0)))
    with (
        pytest.raises(FloatingPointError, match=r"non-finite in epoch 1: lower optimizer\.lr"),
        factorised(data, lambda: 0),
    ):
        torch.linalg.cholesky(-torch.eye(2))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:most inner solves diverge")
@pytest.mark.filterwarnings("ignore::savi.gradients.ImplicitGradientWarning")
@pytest.mark.parametrize(
    "experiment",
    ["laplace_ift", *(pytest.param(name, marks=pytest.mark.long) for name in ("vlae", "svi"))],
)
def test_no_matrix_without_factors_reaches_the_user(config, file, tmp_path, experiment):
    settings = config(*TINY, file(1.0), f"experiment={experiment}", "optimizer.lr=1e3")
    # Of steps that were left out, or of figures that no trained model can have.
    with suppress(FloatingPointError):
        train(settings, tmp_path / "run")
    told = json.loads((tmp_path / "run" / "status.json").read_text())
    assert told["state"] in ("finished", "failed")
    assert not (tmp_path / "run" / "error.txt").exists()
    kept = [*(tmp_path / "run").glob("checkpoints/last.ckpt"), *(tmp_path / "run").glob("*.ckpt")]
    assert kept
    for file in kept:
        weights = read_checkpoint(file)["state_dict"]
        assert all(value.isfinite().all() for value in weights.values())
