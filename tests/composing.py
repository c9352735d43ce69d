"""Configs as the command line composes them, at less than its price."""

import functools
import io
from typing import Any, TextIO

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins import file_config_source
from omegaconf import DictConfig, OmegaConf

from savi.config.store import conf_dir, register_schemas

register_schemas()


class Parsed(OmegaConf):
    """For Hydra, which parses some thirty files for each config: each text is parsed once."""

    @staticmethod
    def load(file_: TextIO) -> Any:
        return OmegaConf.create(parsed(file_.read()))


@functools.cache
def parsed(text: str) -> Any:
    return OmegaConf.to_container(OmegaConf.load(io.StringIO(text)))


file_config_source.OmegaConf = Parsed


@functools.cache
def composed(*overrides: str) -> DictConfig:
    """What Hydra makes of overrides; what depends on the environment is not resolved."""
    with initialize_config_dir(version_base="1.3", config_dir=conf_dir()):
        return compose("config", overrides=list(overrides))
