"""Every file under conf/ composes with the schema."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from composing import composed
from omegaconf import OmegaConf

from savi.config.schema import Config
from savi.config.store import conf_dir, plain
from savi.data import DATASETS
from savi.errors import InputError
from savi.experiments.check import check
from savi.gradients import BACKENDS
from savi.settings import BOUNDS, Bounds
from savi.vae import POSTERIORS

CONF = Path(conf_dir())
GROUPS = sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name != "benchmark")
OPTIONS = [(group, file.stem) for group in GROUPS for file in sorted((CONF / group).glob("*.yaml"))]

#: What an option asks of other groups.
NEEDS = {
    "encoder_loss=none": ("model.encoder=none",),
    "gradient=finite_difference": ("inner.optimizer=adam",),
    "gradient=reversible": ("inner.optimizer=momentum",),
    "inner=map": ("posterior=point_mass", "encoder_loss=distill"),
    "inner=none": ("gradient=unrolled",),
    "posterior=laplace": ("inner=map", "encoder_loss=distill"),
    "posterior=point_mass": ("inner=map", "encoder_loss=distill"),
}


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes(config, group, option, monkeypatch):
    # As if the packages of optional loggers were there.
    monkeypatch.setattr("savi.experiments.check_loggers.find_spec", str)
    check(config(f"{group}={option}", *NEEDS.get(f"{group}={option}", ())))


@pytest.mark.parametrize(
    ("group", "registry"), [("data", DATASETS), ("posterior", POSTERIORS), ("gradient", BACKENDS)]
)
def test_the_files_of_a_group_are_the_registered_names(config, group, registry):
    files = {option for name, option in OPTIONS if name == group}
    assert files == set(registry)
    for option in files:
        assert config(f"{group}={option}")[group]["name"] == option


def bounded(schema: type, where: str = "") -> Iterator[tuple[str, Bounds]]:
    """The keys that have bounds."""
    hints = get_type_hints(schema)
    for key in fields(schema):
        if is_dataclass(hints[key.name]):
            yield from bounded(hints[key.name], f"{where}{key.name}.")
        elif bounds := key.metadata.get(BOUNDS):
            yield where + key.name, bounds


BOUNDED = dict(bounded(Config))


def test_most_numbers_have_bounds():
    assert len(BOUNDED) > 50
    assert BOUNDED["trainer.max_epochs"].at_least == 1


@pytest.fixture(scope="module")
def changed() -> Callable[[str, object], dict[str, Any]]:
    """The config of a run in which one value has another, which the schema converts."""
    whole = composed("experiment=hypergradient")

    def change(key: str, value: object) -> dict[str, Any]:
        config = deepcopy(whole)
        OmegaConf.update(config, key, value)
        return plain(config)

    return change


@pytest.mark.parametrize("key", [key for key in BOUNDED if BOUNDED[key].at_least is not None])
def test_a_value_below_its_minimum_is_refused(changed, key):
    least = BOUNDED[key].at_least
    below = least - 1 if least < 0 else -1
    with pytest.raises(InputError, match=f"^{key} is {below}(.0)?: set it to {least} or more"):
        check(changed(key, below))


@pytest.mark.parametrize("key", [key for key in BOUNDED if BOUNDED[key].above is not None])
def test_a_value_that_is_not_above_0_is_refused(changed, key):
    with pytest.raises(InputError, match=rf"^{key} is 0\.0: set it above 0"):
        check(changed(key, 0.0))


@pytest.mark.parametrize("key", [key for key in BOUNDED if BOUNDED[key].one_of is not None])
def test_a_name_that_is_unknown_is_refused(changed, key):
    with pytest.raises(InputError, match=rf"^unknown {key} 'foo': choose one of "):
        check(changed(key, "foo"))


def test_there_is_a_conf_folder_in_the_checkout():
    assert (CONF / "config.yaml").is_file()
    assert Path(__file__).parents[2] / "conf" == CONF
