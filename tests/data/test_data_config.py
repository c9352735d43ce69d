import inspect
from dataclasses import fields
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from savi.config.store import register_schemas
from savi.data import DATASETS, DataConfig, TensorDataModule

CONF = Path(__file__).parents[2] / "conf" / "data"


def test_one_file_for_each_data_set():
    assert {file.stem for file in CONF.glob("*.yaml")} == set(DATASETS)


def test_the_schema_is_the_constructor():
    parameters = list(inspect.signature(TensorDataModule).parameters)
    assert [field.name for field in fields(DataConfig)] == parameters


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_each_file_sets_every_field_and_fits_the_schema(name):
    loaded = OmegaConf.load(CONF / f"{name}.yaml")
    assert set(loaded) == {field.name for field in fields(DataConfig)}
    config = OmegaConf.merge({"seed": 7, "data": DataConfig}, {"data": loaded})
    assert config.data.name == name
    assert config.data.seed == 7
    known = set(inspect.signature(DATASETS[name]).parameters) - {"path"}
    assert set(config.data.options) == known


@pytest.mark.parametrize("name", ["digits", "linear_gaussian"])
def test_data_that_need_no_files_load_from_their_config(name):
    register_schemas()
    rest = {"seed": 0, "model": {"likelihood": "gaussian"}, "data": DataConfig}
    config = OmegaConf.merge(rest, {"data": OmegaConf.load(CONF / f"{name}.yaml")})
    data = TensorDataModule(**config.data)
    data.setup()
    assert len(data.split("train")) > len(data.split("test")) > 0
