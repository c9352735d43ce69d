"""The options of Lightning's Trainer."""

import inspect

import pytest
import pytorch_lightning as pl
from hydra.errors import HydraException

from savi.config.errors import sentence
from savi.config.lightning import LIGHTNING, REFUSED
from savi.config.schema import Config, TrainerConfig
from savi.config.store import refuse_unknown_keys
from savi.errors import InputError
from savi.experiments.build import build
from savi.experiments.check import check
from savi.experiments.trainer import PROFILERS, build_trainer
from savi.replicas.configs import plans
from savi.runs.record import Origin
from savi.settings import keys_of

SMALL = ("experiment=vae", "data.limit=64", "data.batch_size=16", "model.hidden=4")


def test_every_option_of_lightnings_is_taken_or_refused():
    options = set(inspect.signature(pl.Trainer).parameters)
    own = set(keys_of(TrainerConfig)) - options
    assert own == {"threads", "max_bad_steps", "replicas", "vary"}
    assert options == (set(keys_of(TrainerConfig)) - own) | REFUSED.keys()
    assert not REFUSED.keys() & set(keys_of(TrainerConfig))


@pytest.fixture
def trainer(config, tmp_path):
    """The Trainer of a run with four batches in an epoch."""
    data, _ = build(config(*SMALL))

    def built(*overrides: str) -> pl.Trainer:
        values = config(*SMALL, *overrides)
        check(values)
        return build_trainer(values["trainer"], data, [], False, tmp_path)

    return built


def test_what_is_set_is_lightnings_and_the_rest_is_its_default(trainer):
    plain = trainer()
    assert (plain.num_sanity_val_steps, plain.accumulate_grad_batches) == (0, 1)
    assert (plain.limit_train_batches, plain.max_steps, plain.val_check_interval) == (1.0, -1, 1.0)
    made = trainer(
        "trainer.accumulate_grad_batches=2",
        "trainer.val_check_interval=0.5",
        "trainer.limit_val_batches=1",
        "trainer.limit_train_batches=0.75",
        "trainer.num_sanity_val_steps=2",
        "trainer.max_steps=7",
        "trainer.max_time=00:01:00:00",
        "trainer.detect_anomaly=true",
        "trainer.gradient_clip_val=1",
        "trainer.gradient_clip_algorithm=value",
        "trainer.profiler=simple",
    )
    assert (made.accumulate_grad_batches, made.val_check_interval) == (2, 0.5)
    assert (made.limit_val_batches, made.limit_train_batches) == (1, 0.75)
    assert (made.num_sanity_val_steps, made.max_steps, made._detect_anomaly) == (2, 7, True)
    assert (made.gradient_clip_val, made.gradient_clip_algorithm) == (1.0, "value")
    assert (made.log_every_n_steps, type(made.profiler)) == (3, PROFILERS["simple"])
    assert any(type(callback).__name__ == "Timer" for callback in made.callbacks)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("limit_val_batches=1.5", r"limit_val_batches is 1\.5: a share is at most 1\.0"),
        ("limit_val_batches=0", r"limit_val_batches is 0: set it above 0"),
        ("limit_val_batches=0.01", "0.01 of the .* batches of the val split is less than one: ra"),
        ("val_check_interval=5", "val_check_interval 5 is above the 4 batches of an epoch: lower"),
        ("accumulate_grad_batches=0", "accumulate_grad_batches is 0: set it to 1 or more"),
        ("profiler=fast", "unknown trainer.profiler 'fast': choose one of advanced, pytorch, sim"),
        ("max_time=soon", "trainer: .*soon"),
    ],
)
def test_a_value_that_cannot_be_is_refused(override, told, trainer):
    with pytest.raises(InputError, match=told):
        trainer(f"trainer.{override}")


def test_what_no_run_can_have_is_refused_with_the_reason(config):
    values = config()
    for name, reason in REFUSED.items():
        assert ": " in reason
        with pytest.raises(InputError) as added:
            # As +trainer.NAME makes it.
            refuse_unknown_keys({"trainer": values["trainer"] | {name: 1}}, Config)
        assert str(added.value) == f"trainer.{name} {reason}"
    with pytest.raises(HydraException) as error:
        config("trainer.fast_dev_run=1")
    assert sentence(error.value) == f"trainer.fast_dev_run {REFUSED['fast_dev_run']}"


def test_an_unknown_one_lists_the_known(config):
    with pytest.raises(HydraException) as error:
        config("trainer.nonsense=1")
    told = sentence(error.value)
    assert told.startswith("unknown key 'trainer.nonsense': choose one of accelerator, accumulate")
    assert all(name in told for name in LIGHTNING)


@pytest.mark.parametrize(
    ("name", "value"), [("accumulate_grad_batches", 2), ("overfit_batches", 1)]
)
def test_hypergradients_need_the_whole_training_loss(name, value, config):
    with pytest.raises(InputError, match=f"hypergradient.tune with trainer.{name}.*: set trainer"):
        check(config("experiment=hypergradient", f"trainer.{name}={value}"))


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("accumulate_grad_batches=2", "which is Lightning's: set trainer.accumulate_grad_batches="),
        ("limit_train_batches=0.5", "a share as trainer.limit_train_batches: set it to a number"),
    ],
)
def test_replicas_train_without_lightning(override, told, config, tmp_path):
    values = config("experiment=vae", "trainer.replicas=2", f"trainer.{override}")
    with pytest.raises(InputError, match=told):
        plans(values, tmp_path, Origin())
    few = config("experiment=vae", "trainer.replicas=2", "trainer.limit_train_batches=5")
    assert len(plans(few, tmp_path, Origin())) == 2


def test_the_debug_modes_are_small_runs(config):
    overfit, limit, profiler = (
        config("experiment=vae", f"debug={name}") for name in ("overfit", "limit", "profiler")
    )
    assert overfit["trainer"]["overfit_batches"] == 2
    assert limit["trainer"]["limit_train_batches"] == 4
    assert limit["trainer"]["limit_val_batches"] == 2
    assert profiler["trainer"]["profiler"] == "simple"
    for values in (overfit, limit, profiler):
        check(values)
        assert values["evaluation"]["ais_steps"] == 20
        assert values["data"]["limit"] is None
