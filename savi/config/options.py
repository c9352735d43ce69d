"""Objects from their config name and options, with one clear sentence for an option too many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from savi.errors import InputError
from savi.registry import Registry

T = TypeVar("T")


def build(registry: Registry[type[T]], name: str, options: Mapping[str, Any]) -> T:
    """The registered dataclass ``name``, built with the options that are not None.

    Raises:
        InputError: for an unknown name, and for an option that the class does not take.
    """
    cls = registry[name]
    known = [field.name for field in fields(cls)]  # type: ignore[arg-type]
    given = {key: value for key, value in options.items() if value is not None}
    for key in given:
        if key not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes no options"
            raise InputError(
                f"{registry.kind} '{name}' has no option '{key}': {takes}, so set '{key}' to null"
            )
    return cls(**given)
