"""A config that a checkpoint holds, of this version, an earlier one, or made up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from savi.config.data import DataConfig
from savi.config.schema import Config, filled
from savi.typed import check_types

#: Groups that came later: a config of an earlier version has none of them.
LATER = ("hypergradient",)


def check_stored(config: object) -> None:
    """Refuse what is no whole run's config; keys of groups may be missing.

    Raises:
        InputError: for the first group that is missing, and the first key of another type.
    """
    check_types(Config, config, optional=LATER)


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config in which the keys that came later are what their absence meant: their defaults."""
    return filled(config, asdict(Config(data=DataConfig())))
