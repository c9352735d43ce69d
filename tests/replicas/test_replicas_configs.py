"""Which runs a config with replicas stands for, and what is refused."""

import re
from pathlib import Path

import pytest

from savi.errors import InputError
from savi.replicas.configs import plans
from savi.runs.record import Origin

FOLDER = Path("runs") / "many"


def test_seeds_follow_one_another_and_take_their_data_along(config):
    started = Origin("savi-train experiment=vae seed=3 trainer.replicas=2")
    found = plans(config("seed=3", "trainer.replicas=2"), FOLDER, started)
    assert [plan.folder for plan in found] == [FOLDER / "seed-3", FOLDER / "seed-4"]
    assert found[1].config == config("seed=4")
    command = "savi-train experiment=vae seed=4"
    assert found[1].origin == Origin(command, "many", "many")


def test_a_data_seed_of_its_own_stays(config):
    found = plans(config("data.seed=7", "trainer.replicas=2"), FOLDER, Origin())
    assert [plan.config["data"]["seed"] for plan in found] == [7, 7]
    assert found[0].origin.command == ""


def test_constants_vary_at_one_seed(config):
    varied = config("trainer.replicas=2")
    varied["trainer"]["vary"] = {"inner.rho": [0.1, 1.0], "optimizer.lr": [1e-3, 1e-2]}
    started = Origin("savi-train trainer.replicas=2 'trainer.vary={inner.rho: [0.1, 1]}'")
    found = plans(varied, FOLDER, started)
    assert found[1].config == config("inner.rho=1", "optimizer.lr=1e-2")
    assert found[1].origin.command == "savi-train inner.rho=1.0 optimizer.lr=0.01"
    assert [plan.folder.name for plan in found] == [
        "inner.rho-0.1_optimizer.lr-0.001",
        "inner.rho-1.0_optimizer.lr-0.01",
    ]
    assert found[0].origin.setting == "inner.rho-0.1_optimizer.lr-0.001"


@pytest.mark.parametrize(
    ("override", "advice"),
    [
        ("trainer.devices=2", "trainer.devices=1"),
        ("trainer.accelerator=gpu", "trainer.accelerator=cpu"),
        ("trainer.precision=bf16-mixed", "trainer.precision=32-true"),
        ("inner.compile=true", "inner.compile=false"),
        ("model.kl.free_bits=0.1", "model.kl.free_bits=0"),
        ("model.likelihood=bernoulli", "model.likelihood=gaussian"),
        ("model.prior=mixture", "model.prior=standard"),
        ("model.objective=iwae", "model.objective=elbo"),
        ("posterior=flow", "posterior=diagonal_gaussian"),
        ("callbacks.aggressive_encoder_steps=2", "callbacks.aggressive_encoder_steps=null"),
        ("gradient.on_failure=raise", "gradient.on_failure=warn"),
        ("experiment=hypergradient", "hypergradient.tune=[]"),
        ("callbacks.early_stopping_patience=2", "callbacks.early_stopping_patience=null"),
        ("callbacks.gradient_check_every_n_steps=2", "callbacks.gradient_check_every_n_steps=null"),
        ("callbacks.media_every_n_epochs=2", "callbacks.media_every_n_epochs=null"),
    ],
)
def test_what_replicas_cannot_do_is_refused_in_a_sentence(config, override, advice):
    with pytest.raises(InputError, match=re.escape(advice)):
        plans(config("trainer.replicas=2", override), FOLDER, Origin())


@pytest.mark.parametrize(
    ("vary", "advice"),
    [
        ({"inner.rho": [1.0]}, "trainer.replicas=1"),
        ({"model.hidden": [8, 16]}, "model.hidden"),
        ({"inner.rho": [1.0, 1.0]}, "differ"),
    ],
)
def test_what_cannot_vary_is_refused(config, vary, advice):
    varied = config("trainer.replicas=2")
    varied["trainer"]["vary"] = vary
    with pytest.raises(InputError, match=advice):
        plans(varied, FOLDER, Origin())
