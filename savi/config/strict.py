"""Refuse what Hydra lets through: keys and groups that a run would silently ignore."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from savi.errors import InputError, unknown_option


def refuse_unknown_keys(config: Mapping[str, Any], schema: type, where: str = "") -> None:
    """Refuse keys added with ``+`` or ``++`` that are not in the schema.

    Raises:
        InputError: for the first such key, with the known ones.
    """
    types = get_type_hints(schema)
    known = [field.name for field in fields(schema)]
    for key, value in config.items():
        if key not in known:
            raise unknown_option("key", where + key, known)
        if is_dataclass(types[key]) and isinstance(value, Mapping):
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
