"""Joint trainings from end to end, against separate ones."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from bad_steps import breaking

from savi.config.schema import EvaluateConfig
from savi.errors import InputError
from savi.experiments.checkpoint import CONFIG_KEY, read_checkpoint
from savi.experiments.reload import evaluate_checkpoint
from savi.experiments.replay import replay
from savi.experiments.run import train
from savi.inference.outer_loss import OuterLoss
from savi.replicas import train as train_together
from savi.replicas.ensemble import Ensemble
from savi.report.figures import read_metrics
from savi.runs.record import Interrupted, Origin

QUICK = (
    "debug=quick", "logger=csv", "callbacks.figures=false", "model.hidden=16", "trainer.threads=1",
    "model.latent_dim=4", "evaluation.ais_examples=0", "evaluation.autoencoder_steps=0",
)  # fmt: skip

#: What stands near a threshold of its own, or is itself rounding, follows the weights less closely.
LOOSE = ("ift/", "inner/", "gap/")

pytestmark = [
    pytest.mark.filterwarnings("ignore::savi.gradients.ImplicitGradientWarning"),
    pytest.mark.filterwarnings("ignore:most inner solves diverge"),
    pytest.mark.filterwarnings("ignore:Experiment logs directory"),
    pytest.mark.filterwarnings("ignore:The '.*' does not have many workers"),
]


def metrics(folder: Path) -> dict[str, float]:
    return json.loads((folder / "metrics.json").read_text())


def record(folder: Path) -> dict:
    return json.loads((folder / "status.json").read_text())


def varied(config: dict, vary: dict[str, list[float]]) -> dict:
    config["trainer"] |= {"replicas": 2, "vary": vary}
    return config


def assert_same(together: dict[str, float], alone: dict[str, float]) -> None:
    assert together.keys() == alone.keys()
    for name, value in alone.items():
        if name.startswith("cost/"):
            continue
        loose = any(part in name for part in LOOSE)
        # A mutual information, say, is a small difference of averages of a few nats.
        rel, least = (0.5, 1e-3) if loose else (1e-4, 1e-6)
        if name == "ift/error_bound":
            # The worst of what float32 shows between two gradients near each other.
            least = 1e-2
        if name.endswith(("elbo", "nll", "reconstruction", "bits_per_dim")):
            rel = 1e-5
        close = pytest.approx(value, rel=rel, abs=least)
        assert together[name] == close, name


@pytest.mark.parametrize(("experiment", "gamma"), [("vae", "learned"), ("savi_ift", "optimal")])
def test_two_replicas_are_two_separate_runs(config, tmp_path, experiment, gamma):
    overrides = (*QUICK, f"experiment={experiment}", f"model.gamma.mode={gamma}")
    results = train_together(config(*overrides, "trainer.replicas=2"), tmp_path / "together")
    for seed in (0, 1):
        alone, ours = tmp_path / f"alone-{seed}", tmp_path / "together" / f"seed-{seed}"
        train(config(*overrides, f"seed={seed}"), alone)
        assert metrics(ours) == results[seed]
        assert_same(metrics(ours), metrics(alone))
        assert yaml.safe_load((ours / "config.yaml").read_text()) == yaml.safe_load(
            (alone / "config.yaml").read_text()
        )
        curves, own_curves = (read_metrics(folder / "metrics.csv") for folder in (ours, alone))
        assert curves.keys() == own_curves.keys()
        for name in ("train/elbo", "val/elbo", "gradient/norm_decoder"):
            assert curves[name].steps.tolist() == own_curves[name].steps.tolist()
            assert curves[name].values == pytest.approx(own_curves[name].values, rel=1e-5)
        assert record(ours)["state"] == "finished"


def test_a_last_step_on_trust_is_measured_as_seldom_as_alone(config, tmp_path):
    overrides = (
        *QUICK, "experiment=savi", "inner.adapt_lr=false", "trainer.max_epochs=1",
        "inner.linear_head=off",
    )  # fmt: skip
    together = train_together(config(*overrides, "trainer.replicas=2"), tmp_path / "together")
    train(config(*overrides), tmp_path / "alone")
    alone, cost = metrics(tmp_path / "alone"), "cost/decoder_evaluations"
    assert_same(together[0], alone)
    assert together[0][cost] == pytest.approx(alone[cost])


def test_checkpoints_are_those_of_ordinary_runs(config, tmp_path):
    overrides = (*QUICK, "experiment=vae", "trainer.max_epochs=1", "trainer.replicas=2")
    results = train_together(config(*overrides), tmp_path)
    best = tmp_path / "seed-1" / "checkpoints" / "best.ckpt"
    assert read_checkpoint(best)[CONFIG_KEY]["seed"] == 1
    assert (
        best.stat().st_size < 2 * (tmp_path / "seed-0" / "checkpoints" / "last.ckpt").stat().st_size
    )
    options = asdict(EvaluateConfig(checkpoint=str(best), device="cpu"))
    again = evaluate_checkpoint(options)[0].metrics
    assert again["test/elbo"] == pytest.approx(results[1]["test/elbo"], rel=1e-6, abs=1e-5)


def test_replicas_that_differ_in_constants_are_separate_runs(config, tmp_path):
    overrides = (*QUICK, "experiment=savi_ift", "trainer.max_epochs=1")
    vary = {"inner.rho": [0.5, 2.0], "optimizer.lr": [1e-3, 1e-2]}
    together = train_together(varied(config(*overrides), vary), tmp_path / "together")
    own = ("inner.rho=2.0", "optimizer.lr=1e-2")
    assert_same(together[1], train(config(*overrides, *own), tmp_path / "alone"))
    assert (tmp_path / "together" / "inner.rho-2.0_optimizer.lr-0.01" / "metrics.json").is_file()


def test_a_diverged_replica_is_recorded_and_the_others_go_on(config, tmp_path):
    diverging = varied(config(*QUICK, "experiment=savi_ift"), {"optimizer.lr": [1e-3, 1e30]})
    first, second = train_together(diverging, tmp_path)
    assert second == {}
    failed = record(tmp_path / "optimizer.lr-1e+30")
    assert failed["state"] == "failed"
    assert "training steps of an epoch had to be left out" in failed["reason"]
    assert "in epoch 1" in failed["reason"]
    assert record(tmp_path / "optimizer.lr-0.001")["state"] == "finished"
    assert first == metrics(tmp_path / "optimizer.lr-0.001")
    assert not (tmp_path / "optimizer.lr-1e+30" / "metrics.json").exists()


def test_if_all_diverge_the_first_reason_is_raised(config, tmp_path):
    overrides = (*QUICK, "experiment=vae", "trainer.replicas=2", "optimizer.lr=1e30")
    with pytest.raises(FloatingPointError, match="epoch 1"):
        train_together(config(*overrides), tmp_path)
    assert [record(tmp_path / f"seed-{seed}")["state"] for seed in (0, 1)] == ["failed"] * 2


def test_a_folder_that_holds_a_run_is_refused_before_any_work(config, tmp_path):
    (tmp_path / "seed-1").mkdir()
    (tmp_path / "seed-1" / "metrics.json").write_text("{}")
    with pytest.raises(InputError, match="holds a run already"):
        train_together(config(*QUICK, "experiment=vae", "trainer.replicas=2"), tmp_path)
    assert not (tmp_path / "seed-0" / "status.json").exists()


def test_splits_of_different_sizes_are_refused(config, tmp_path, monkeypatch):
    from savi.data import TensorDataModule

    setup = TensorDataModule.setup

    def uneven(self, stage=None):
        self.limit = 256 + self.seed
        setup(self, stage)

    monkeypatch.setattr(TensorDataModule, "setup", uneven)
    with pytest.raises(InputError, match="differ in size"):
        train_together(config(*QUICK, "experiment=vae", "trainer.replicas=2"), tmp_path)


def test_an_interrupted_training_keeps_what_there_is(config, tmp_path, monkeypatch):
    update, steps = Ensemble.update, []

    def interrupted(self, *taken):
        update(self, *taken)
        steps.append(1)
        if len(steps) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Ensemble, "update", interrupted)
    origin = Origin(command="savi-train trainer.replicas=2")
    with pytest.raises(Interrupted):
        train_together(config(*QUICK, "experiment=vae", "trainer.replicas=2"), tmp_path, origin)
    for seed in (0, 1):
        folder = tmp_path / f"seed-{seed}"
        assert record(folder)["state"] == "interrupted"
        assert record(folder)["command"] == f"savi-train seed={seed}"
        assert "val/elbo" in metrics(folder)
        assert (
            torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 3
        )


def test_a_bad_step_of_a_replica_is_its_own(config, tmp_path, monkeypatch):
    settings = (*QUICK, "experiment=savi_ift", "trainer.max_epochs=1", "trainer.replicas=2")
    expected = train_together(config(*settings), tmp_path / "whole")
    # The last example of the joint batch is the second run's.
    faults = breaking({1: "data"}, rows=slice(-1, None))
    monkeypatch.setattr(OuterLoss, "__call__", faults)
    first, second = train_together(config(*settings), tmp_path / "broken")
    assert_same(first, expected[0])
    assert second["train/bad_steps"] == 1
    assert np.isfinite(list(second.values())).all()
    assert not (tmp_path / "broken" / "seed-0" / "bad_step.ckpt").exists()
    monkeypatch.undo()
    repeated = replay(tmp_path / "broken" / "seed-1" / "bad_step.ckpt")
    assert repeated.inputs["step"] == 1
    assert repeated.step.loss.isfinite()
    monkeypatch.setattr(OuterLoss, "__call__", breaking({1: "factorisation"}))
    both = train_together(config(*settings), tmp_path / "both")
    assert [run["train/bad_steps"] for run in both] == [1, 1]
    monkeypatch.setattr(OuterLoss, "__call__", breaking({1: "data"}, rows=slice(-1, None)))
    kept, ended = train_together(config(*settings, "trainer.max_bad_steps=0"), tmp_path / "ended")
    assert ended == {}
    assert_same(kept, expected[0])
    assert record(tmp_path / "ended" / "seed-1")["reason"].startswith("a training step had to be")
