"""The callback alternates training and tuning, and a run keeps what was tuned."""

import copy
import json
from pathlib import Path

import pytest
import torch

from savi.experiments.build import build
from savi.experiments.reload import evaluate_checkpoint
from savi.experiments.run import Run, train
from savi.experiments.training_state import TrainingState
from savi.implicit.reporter import ImplicitGradientError, ImplicitGradientWarning
from savi.report.figures import read_metrics
from savi.training.hypergradient.hyperparameters import HYPERPARAMETERS, values
from savi.training.hypergradient.tuner import HypergradientTuner

SMALL = (
    "logger=csv", "experiment=hypergradient", "debug=quick", "data=linear_gaussian",
    "data.limit=24", "data.batch_size=12", "model.hidden=4", "model.depth=1",
    "model.latent_dim=2", "callbacks.figures=false", "evaluation.gap_examples=0",
    "evaluation.ais_examples=0", "evaluation.autoencoder_steps=0", "hypergradient.examples=12",
    "hypergradient.start_epoch=1", "hypergradient.every_n_steps=2",
    "hypergradient.lr=0.1", "hypergradient.damping=0", "hypergradient.max_stationarity=0.1",
    "hypergradient.on_failure=warn",
)  # fmt: skip
STARTS = {"gamma": 0.5, "beta": 1.0, "rho": 10.0, "weight_decay": 1e-3}
CERTIFICATE = (
    "norm", "stationarity", "outer_shift", "linear_residual", "linear_steps", "min_curvature",
    "failed",
)  # fmt: skip

# A few steps from a random start leave no weights that are anything's best response.
pytestmark = pytest.mark.filterwarnings("ignore::savi.gradients.ImplicitGradientWarning")


def small(config, *overrides):
    return config(*SMALL, "model.gamma.value=0.5", *overrides)


def tuner_of(config, *overrides):
    settings = small(config, *overrides)
    data, module = build(settings)
    tuner = HypergradientTuner(settings["hypergradient"], data, settings["seed"])
    tuner.on_train_start(None, module)
    return tuner, module


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    from hydra import compose, initialize_config_dir

    from savi.config.store import conf_dir, plain

    with initialize_config_dir(version_base="1.3", config_dir=conf_dir()):
        overrides = [*SMALL, "model.gamma.value=0.5", "trainer.max_epochs=3"]
        settings = plain(compose("config", overrides=overrides))
    folder = tmp_path_factory.mktemp("tuned") / "run"
    train(settings, folder)
    return folder


@pytest.mark.slow
def test_a_run_logs_its_hyperparameters_and_keeps_them(finished):
    curves = read_metrics(finished / "metrics.csv")
    metrics = json.loads((finished / "metrics.json").read_text())
    for name in (*HYPERPARAMETERS, *CERTIFICATE):
        assert list(curves[f"hyper/{name}"].steps) == [2, 4], name
        assert f"hyper/{name}" in metrics
    for name, start in STARTS.items():
        first, second = curves[f"hyper/{name}"].values
        # Adam's first step is its learning rate, in the logarithm.
        assert abs(torch.tensor(first / start).log()) == pytest.approx(0.1, rel=1e-2)
        assert second != first
    best = torch.load(finished / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    for name, (path, attribute) in HYPERPARAMETERS.items():
        assert metrics[f"hyper/{name}"] == float(best[f"{path}.{attribute}".lstrip(".")])
    assert metrics["test/gamma"] == pytest.approx(metrics["hyper/gamma"])


@pytest.mark.slow
def test_an_evaluation_of_the_checkpoint_infers_with_the_tuned_rho(finished, config):
    path = finished / "checkpoints" / "best.ckpt"
    metrics = json.loads((finished / "metrics.json").read_text())
    again, _ = evaluate_checkpoint(evaluation_options(config, path))
    assert again.metrics == {name: metrics[name] for name in again.metrics}
    contents = torch.load(path, weights_only=True)
    contents["state_dict"]["inference.rho"].fill_(1e-3)
    torch.save(contents, finished / "other.ckpt")
    other, _ = evaluate_checkpoint(evaluation_options(config, finished / "other.ckpt"))
    assert other.metrics["test/elbo"] != again.metrics["test/elbo"]


def evaluation_options(config, path):
    from dataclasses import asdict

    from savi.config.schema import EvaluateConfig

    return asdict(EvaluateConfig(checkpoint=str(path), device="cpu"))


def test_a_step_goes_down_the_hypergradient(config):
    tuner, module = tuner_of(config, "hypergradient.solver=minres", "hypergradient.examples=null")
    found = tuner._hypergradient(module)
    tuner.step(module)
    moved = values(module, module.tuned)
    for (name, start), gradient in zip(STARTS.items(), found.gradients, strict=True):
        assert (moved[name] - start) * float(gradient) < 0, name


def test_steps_are_repeatable_and_leave_the_random_state_alone(config):
    taken = []
    for _ in range(2):
        tuner, module = tuner_of(config)
        state = torch.get_rng_state()
        taken.append([tuner.step(module) for _ in range(2)])
        assert torch.equal(torch.get_rng_state(), state)
    assert taken[0] == taken[1]
    assert taken[0][0] != taken[0][1]


def test_what_fails_is_used_skipped_or_refused(config):
    tuner, module = tuner_of(config)
    with pytest.warns(ImplicitGradientWarning, match="no stationary point"):
        figures = tuner.step(module)
    assert figures["hyper/failed"] == 1.0
    assert values(module, ["rho"])["rho"] != STARTS["rho"]
    tuner, module = tuner_of(config, "hypergradient.on_failure=skip")
    assert tuner.step(module)["hyper/failed"] == 1.0
    assert values(module, module.tuned) == pytest.approx(STARTS)
    tuner, module = tuner_of(config, "hypergradient.on_failure=raise")
    with pytest.raises(ImplicitGradientError, match="no stationary point"):
        tuner.step(module)


def test_a_resumed_run_goes_on(config):
    tuner, module = tuner_of(config)
    tuner.step(module)
    resumed, other = tuner_of(config)
    other.load_state_dict(module.state_dict())
    # From a file nothing is shared.
    resumed.load_state_dict(copy.deepcopy(tuner.state_dict()))
    resumed.on_train_start(None, other)
    assert resumed.step(other) == pytest.approx(tuner.step(module), rel=1e-4)
    assert HypergradientTuner({}, None, 0).state_dict() == {}


def test_amortised_inference_is_tuned_without_rho(config):
    tuner, module = tuner_of(
        config, "inner=none", "gradient=unrolled", "hypergradient.tune=[beta,weight_decay]",
        "hypergradient.solver=nystrom", "hypergradient.damping=5",
    )  # fmt: skip
    figures = tuner.step(module)
    assert {"hyper/beta", "hyper/weight_decay"} <= set(figures)
    assert "hyper/rho" not in figures


def test_it_is_off_by_default(config, tmp_path):
    run = Run.build(config("logger=csv", "data.limit=24"), tmp_path / "run")
    assert not any(isinstance(c, HypergradientTuner) for c in run.trainer.callbacks)
    run = Run.build(small(config), tmp_path / "run")
    first = [type(callback) for callback in run.trainer.callbacks[:2]]
    assert first == [TrainingState, HypergradientTuner]
