"""Every file under conf/ composes with the schema."""

from pathlib import Path

import pytest

from savi.config.store import conf_dir
from savi.data import DATASETS
from savi.errors import InputError
from savi.experiments.check import MINIMA, check
from savi.gradients import BACKENDS
from savi.vae import POSTERIORS

CONF = Path(conf_dir())
GROUPS = sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name != "benchmark")
OPTIONS = [(group, file.stem) for group in GROUPS for file in sorted((CONF / group).glob("*.yaml"))]


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes(config, group, option):
    values = config(f"{group}={option}")
    check(values)


@pytest.mark.parametrize(
    ("group", "registry"), [("data", DATASETS), ("posterior", POSTERIORS), ("gradient", BACKENDS)]
)
def test_the_files_of_a_group_are_the_registered_names(config, group, registry):
    files = {option for name, option in OPTIONS if name == group}
    assert files == set(registry)
    for option in files:
        assert config(f"{group}={option}")[group]["name"] == option


@pytest.mark.parametrize("key", sorted(MINIMA))
def test_a_value_below_its_minimum_is_refused(config, key):
    with pytest.raises(InputError, match=f"{key} is -1: set it to {MINIMA[key]} or more"):
        check(config(f"{key}=-1"))


def test_there_is_a_conf_folder_in_the_checkout():
    assert (CONF / "config.yaml").is_file()
    assert Path(__file__).parents[2] / "conf" == CONF
