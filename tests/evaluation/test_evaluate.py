"""All the final figures of a trained model."""

import math
from collections.abc import Mapping

import pytest
import torch
from linear_gaussian import linear_gaussian

from savi.data import TensorDataModule
from savi.evaluation import evaluate
from savi.training.module import SemiAmortizedVAE

MODEL = {
    "latent_dim": 2,
    "decoder": "mlp",
    "encoder": "mlp",
    "hidden": 8,
    "depth": 1,
    "activation": "tanh",
    "encoder_hidden": None,
    "encoder_depth": None,
    "samples": 1,
    "gamma": {"mode": "optimal", "value": None, "floor": 1e-6},
    "kl": {"weight": 1.0, "warmup_steps": 0, "free_bits": 0.0},
}
INNER = {
    "objective": "elbo",
    "optimizer": "levenberg_marquardt",
    "max_steps": 2,
    "test_max_steps": None,
    "rtol": 1e-3,
    "atol": 0.0,
    "rho": 1.0,
    "noise": "crn",
    "samples": 4,
}
EVALUATION = {
    "val_samples": 2,
    "samples": 8,
    "importance_samples": 20,
    "gap_examples": 16,
    "gap_steps": 10,
    "ais_examples": 3,
    "ais_chains": 4,
    "ais_steps": 10,
    "autoencoder_steps": 20,
}
BOUNDS = {"elbo", "reconstruction", "kl", "nll", "bits_per_dim", "gamma"}
LATENTS = {"active_units", "mutual_information"}
GAPS = {"gap/amortization", "gap/approximation", "gap/inference", "gap/generalization"}
GAPS |= {"gap/converged", "gap/stationarity", "gap/min_curvature", "gap/failures"}
ANNEALED = {"ais/nll", "ais/nll_importance", "ais/log_likelihood", "ais/bdmc_gap"}
COLLAPSE = {"collapse/pruned_units", "collapse/gamma_ratio", "collapse/autoencoder_error"}
SOLVES = {"inner/steps", "inner/stationarity", "inner/improvement", "inner/converged"}


@pytest.fixture(scope="module")
def data() -> TensorDataModule:
    options = {"n": 200, "dim": 6, "latent_dim": 2}
    data = TensorDataModule("linear_gaussian", batch_size=16, options=options)
    data.setup()
    return data


def module_of(
    posterior: str = "diagonal_gaussian",
    inner: Mapping[str, object] = {},
    evaluation: Mapping[str, object] = {},
    seed: int = 0,
) -> SemiAmortizedVAE:
    torch.manual_seed(0)
    return SemiAmortizedVAE(
        data_shape=(6,),
        data_variance=1.0,
        model=MODEL,
        posterior={"name": posterior},
        inner=INNER | inner,
        gradient={"name": "unrolled"},
        encoder_loss={"through": 1.0},
        optimizer={"lr": 1e-3, "weight_decay": 0.0, "schedule": "constant"},
        evaluation=EVALUATION | evaluation,
        seed=seed,
    )


@pytest.mark.parametrize("split", ["test", "val"])
def test_all_figures_are_there_and_finite(data: TensorDataModule, split: str):
    metrics = evaluate(module_of(), data, split).metrics
    names = {f"{split}/{name}" for name in BOUNDS | LATENTS | GAPS | ANNEALED | COLLAPSE} | SOLVES
    names |= {f"train/{name}" for name in GAPS - {"gap/generalization"}}
    assert names <= set(metrics)
    assert all(math.isfinite(value) for value in metrics.values())
    assert all(type(value) is float for value in metrics.values())
    assert metrics[f"{split}/elbo"] == pytest.approx(
        metrics[f"{split}/reconstruction"] - metrics[f"{split}/kl"], rel=1e-5
    )
    nats = metrics[f"{split}/nll"] / 6 / math.log(2.0)
    assert metrics[f"{split}/bits_per_dim"] == pytest.approx(nats)
    assert metrics["inner/improvement"] > 0
    assert 0 < metrics["inner/steps"] <= 2


@pytest.mark.parametrize("posterior", ["full_gaussian", "laplace", "point_mass"])
def test_every_family_has_the_same_figures(data: TensorDataModule, posterior: str):
    objective = "elbo" if posterior == "full_gaussian" else "map"
    metrics = evaluate(module_of(posterior, {"objective": objective}), data).metrics
    expected = set(evaluate(module_of(), data).metrics)
    if posterior == "point_mass":
        # It has no bound to measure gaps from, and nothing that could be left to the prior.
        expected = {name for name in expected if "/gap/" not in name and "/collapse/" not in name}
    assert set(metrics) == expected
    assert all(math.isfinite(value) for value in metrics.values())


def test_without_inner_steps_and_gaps_there_are_fewer(data: TensorDataModule):
    off = {"gap_examples": 0, "ais_examples": 0, "autoencoder_steps": 0}
    metrics = evaluate(module_of(inner={"max_steps": 0}, evaluation=off), data).metrics
    left_out = ("inner/", "test/gap/", "test/ais/", "test/collapse/autoencoder")
    assert not [name for name in metrics if name.startswith(left_out)]
    assert {f"test/{name}" for name in BOUNDS | LATENTS} <= set(metrics)


@pytest.mark.parametrize("noise", ["crn", "fresh"])
def test_the_figures_do_not_depend_on_the_global_seed(data: TensorDataModule, noise: str):
    module = module_of(inner={"noise": noise})
    first = evaluate(module, data).metrics
    torch.manual_seed(99)
    assert evaluate(module, data).metrics == first
    # The network of another seed is the same here: only the noise differs.
    assert evaluate(module_of(inner={"noise": noise}, seed=1), data).metrics != first


@pytest.mark.parametrize("training", [True, False])
def test_the_module_is_left_as_it_was(data: TensorDataModule, training: bool):
    module = module_of().train(training)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    evaluate(module, data)
    assert module.training is training
    assert module.vae.gamma.training is training
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(p.grad is None for p in module.parameters())


class FailingData:
    """A data module whose splits cannot be read."""

    def __init__(self, data: TensorDataModule) -> None:
        self.batch_size, self.dim = data.batch_size, data.dim

    def rows(self, name: str) -> torch.Tensor:
        raise KeyError(name)


def test_the_module_is_put_back_into_training_after_an_error(data: TensorDataModule):
    module = module_of().train()
    with pytest.raises(KeyError):
        evaluate(module, FailingData(data))  # type: ignore[arg-type]
    assert module.training


def test_a_true_model_is_measured_as_its_closed_forms_say(data: TensorDataModule):
    problem = linear_gaussian(d=2)
    module = module_of("full_gaussian", {"max_steps": 30, "rtol": 1e-5})
    assert data.truth is not None
    problem.model.decoder.load_state_dict(
        {"head.weight": data.truth["W"], "head.bias": data.truth["b"] - data.mean}
    )
    module.vae = problem.model.float()
    module.vae.gamma.gamma = data.truth["gamma"].reshape(1).float()
    evaluation = evaluate(module, data)
    metrics = evaluation.metrics
    covariance = data.truth["W"] @ data.truth["W"].mT
    covariance += data.truth["gamma"] * torch.eye(6).double()
    law = torch.distributions.MultivariateNormal(data.truth["b"] - data.mean, covariance)
    nll = -float(law.log_prob(data.split("test").double()).mean())
    assert metrics["test/nll"] == pytest.approx(nll, abs=1e-3)
    assert metrics["test/elbo"] == pytest.approx(-nll, abs=0.2)
    assert metrics["test/gap/approximation"] == pytest.approx(0.0, abs=1e-3)
    assert metrics["test/gap/amortization"] == pytest.approx(0.0, abs=1e-3)
    assert metrics["test/gap/converged"] == 1
    # Annealing starts at the exact posterior here: every chain has the same weight.
    of_three = -float(law.log_prob(data.split("test")[:3].double()).mean())
    assert metrics["test/ais/nll"] == pytest.approx(of_three, abs=1e-3)
    assert metrics["test/ais/bdmc_gap"] == pytest.approx(0.0, abs=1e-3)
    assert evaluation.collapse is not None
    assert evaluation.collapse.verdict.kind == "none"
    assert metrics["test/active_units"] == 2
    assert metrics["test/gamma"] == pytest.approx(float(data.truth["gamma"]))


def test_progress_ends_at_one(data):
    told: list[float] = []
    evaluate(module_of(), data, progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0
