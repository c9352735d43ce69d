"""What cannot be tuned is refused in a sentence, before any work."""

from pathlib import Path

import pytest

from savi.errors import InputError
from savi.experiments.check import check
from savi.replicas.configs import plans
from savi.runs.record import Origin

REFUSED = [
    (
        "tune=[foo]",
        "unknown hypergradient.tune 'foo': choose one of beta, gamma, rho, weight_decay",
    ),
    ("tune=[rho,rho]", "name each hyperparameter once"),
    ("solver=foo", "unknown hypergradient.solver 'foo': choose one of cg, cholesky"),
    ("solver=gauss_newton", "unknown hypergradient.solver 'gauss_newton'"),
    ("on_failure=mask", "unknown hypergradient.on_failure 'mask': choose one of raise, skip, warn"),
    ("lr=0", "hypergradient.lr is 0.0: set it above 0"),
    ("rtol=0", "hypergradient.rtol is 0.0: set it above 0"),
    ("max_stationarity=nan", "hypergradient.max_stationarity is nan: set it above 0"),
    ("damping=-1", "hypergradient.damping is -1.0: set it to 0 or more"),
    ("every_n_steps=0", "hypergradient.every_n_steps is 0: set it to 1 or more"),
    ("start_epoch=-1", "hypergradient.start_epoch is -1: set it to 0 or more"),
    ("max_steps=0", "hypergradient.max_steps is 0: set it to 1 or more"),
    ("examples=0", "hypergradient.examples is 0: set it to 1 or more"),
    ("samples=0", "hypergradient.samples is 0: set it to 1 or more"),
]
COMBINATIONS = [
    (("model.gamma.mode=learned",), "model.gamma.mode 'learned', which sets γ itself: set model"),
    (("model.gamma.mode=optimal", "hypergradient.tune=[beta]"), "set model.gamma.mode=fixed"),
    (("model.kl.weight=0",), "model.kl.weight 0, whose logarithm is to move: set model.kl.weight"),
    (("model.kl.warmup_steps=10",), "set model.kl.warmup_steps=0"),
    (("optimizer.weight_decay=0",), "set optimizer.weight_decay above 0"),
    (
        ("inner=elbo", "hypergradient.tune=[rho]"),
        "inner.objective 'elbo'.*has no ρ: set inner=prox",
    ),
    (("inner=none", "gradient=unrolled"), "rho and .* inner.max_steps 0, which has no ρ"),
    (("inner=elbo", "hypergradient.tune=[gamma]"), "set inner=proximal, or inner=none"),
    (("gradient=unrolled",), "gradient 'unrolled'.*: set gradient=ift"),
    (("encoder_loss=through_and_elbo",), "no one function is minimised: set encoder_loss=through"),
    (("encoder_loss.through=0.5",), "encoder_loss.through 0.5, no gradient of one function"),
    (("trainer=ddp", "trainer.accelerator=cpu"), "trainer.devices 2: set trainer.devices=1"),
    (("inner.compile=true",), "set inner.compile=false"),
    (
        ("inner=none", "gradient=unrolled", "posterior=laplace", "hypergradient.tune=[beta]"),
        "posterior 'laplace', which is found by MAP inference: set posterior=diagonal_gaussian",
    ),
]


@pytest.mark.parametrize(("override", "message"), REFUSED)
def test_a_setting_out_of_range(config, override, message):
    values = config("experiment=hypergradient", f"hypergradient.{override}")
    with pytest.raises(InputError, match=message.replace("[", r"\[")):
        check(values)


@pytest.mark.parametrize(("overrides", "message"), COMBINATIONS)
def test_a_combination_that_makes_no_sense(config, overrides, message):
    with pytest.raises(InputError, match=f"^hypergradient.tune with .*{message}"):
        check(config("experiment=hypergradient", *overrides))


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("inner=none", "gradient=unrolled", "hypergradient.tune=[gamma,beta,weight_decay]"),
        ("model.gamma.mode=learned", "hypergradient.tune=[rho]"),
        ("model.encoder=none", "encoder_loss=none"),
        ("hypergradient.tune=[]", "encoder_loss=distill", "hypergradient.lr=0"),
    ],
)
def test_what_can_be_tuned(config, overrides):
    check(config("experiment=hypergradient", *overrides))


def test_a_config_of_a_version_without_hypergradients(config):
    values = config()
    del values["hypergradient"]
    check(values)


def test_replicas_refuse_to_tune(config):
    values = config("experiment=hypergradient", "trainer.replicas=2")
    with pytest.raises(InputError, match=r"hypergradient.tune=\[\]"):
        plans(values, Path("runs"), Origin())
