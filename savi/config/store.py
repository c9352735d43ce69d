"""The schemas under the names that the YAML files refer to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from savi.config.data import DataConfig
from savi.config.lightning import lightnings_refusal
from savi.config.of_likelihood import of_likelihood
from savi.config.schema import OPEN, Config, EvaluateConfig
from savi.errors import InputError, unknown_option
from savi.settings import keys_of


def register_schemas() -> None:
    """Make ``schema`` and ``evaluate_schema`` known to Hydra, and what ``conf/data`` asks."""
    OmegaConf.register_new_resolver("of_likelihood", of_likelihood, replace=True)
    store = ConfigStore.instance()
    schema = OmegaConf.structured(Config(data=DataConfig()))
    for key in OPEN:
        # Which keys these may have is checked when everything is registered that will be.
        OmegaConf.set_struct(OmegaConf.select(schema, key), False)
    store.store(name="schema", node=schema)
    store.store(name="evaluate_schema", node=EvaluateConfig)


PACKAGE = Path(__file__).resolve().parents[1]


def conf_dir() -> str:
    """The absolute path of ``conf/``.

    The packaged copy comes first, so that another project's top-level ``conf`` cannot take its
    place; in a checkout, installed in editable form or not at all, there is no packaged copy.

    Raises:
        FileNotFoundError: if neither exists, which means a broken installation.
    """
    for folder in (PACKAGE / "conf", PACKAGE.parent / "conf"):
        if (folder / "config.yaml").is_file():
            return str(folder)
    raise FileNotFoundError(f"no conf/config.yaml in {PACKAGE} or beside it: reinstall savi")


def refuse_unknown_keys(config: Mapping[str, Any], schema: type, where: str = "") -> None:
    """Refuse keys added with ``+`` or ``++`` that are not in the schema, except in open groups.

    Raises:
        InputError: for the first such key, with the known ones.
    """
    types = get_type_hints(schema)
    known = keys_of(schema)
    for key, value in config.items():
        if key not in known and where.rstrip(".") not in OPEN:
            if refusal := lightnings_refusal(where + key):
                raise InputError(refusal)
            raise unknown_option("key", where + key, known)
        if is_dataclass(types.get(key)) and isinstance(value, Mapping):
            refuse_unknown_keys(value, types[key], f"{where}{key}.")


def refuse_dropped_groups(chosen: Mapping[str, Any], schema: type) -> None:
    """Refuse a run from which a group was taken away with ``~``.

    Raises:
        InputError: for the first group of the schema that nothing was chosen for.
    """
    groups = [name for name, kind in get_type_hints(schema).items() if is_dataclass(kind)]
    for group in groups:
        if chosen.get(group) is None:
            raise InputError(f"no {group} is chosen: leave out '~{group}', or set {group}=...")


def plain(config: DictConfig) -> dict[str, Any]:
    """The config as dicts, lists and plain values.

    Raises:
        OmegaConfBaseException: for a key without a value, and for one that names another wrongly.
    """
    container = OmegaConf.to_container(
        config, resolve=True, enum_to_str=True, throw_on_missing=True
    )
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}
