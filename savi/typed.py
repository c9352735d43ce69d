"""Is what a file holds of the types that dataclasses declare? A file may hold anything."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from savi.errors import InputError
from savi.settings import is_text


def check_types(
    schema: Any,
    values: object,
    where: str = "",
    optional: Collection[str] = (),
    *,
    exact: bool = False,
) -> None:
    """Refuse values that are not of the types that a dataclass declares.

    Fields with defaults may be missing, dataclasses in it only if they are ``optional``. Other keys
    may be there unless it is to be ``exact``.

    Raises:
        InputError: for the first of them, by the path to it, which begins with ``where``.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"{where.rstrip('.') or 'it'} is {_shown(values)} and no group of keys")
    hints = get_type_hints(schema)
    if exact and (others := [key for key in values if key not in hints]):
        raise InputError(f"{where}{_shown(others[0])} is nothing that belongs to it")
    for declared in fields(schema):
        name, hint = f"{where}{declared.name}", hints[declared.name]
        inner = is_dataclass(hint)
        if declared.name not in values:
            needed = declared.default is declared.default_factory is MISSING or inner
            if needed and declared.name not in optional:
                raise InputError(f"it lacks {name}")
        elif inner:
            check_types(hint, values[declared.name], f"{name}.", exact=exact)
        elif not conforms(values[declared.name], hint):
            raise InputError(f"{name} is {_shown(values[declared.name])}")


def conforms(value: object, hint: Any) -> bool:
    """Whether a value is of a declared type; a whole number is a ``float`` too, a bool none."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(conforms(value, one) for one in inner)
    if hint is None or hint is NoneType:
        return value is None
    if origin in (list, tuple):
        return isinstance(value, list | tuple) and all(conforms(one, inner[0]) for one in value)
    if origin is not None and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(
            conforms(key, inner[0]) and conforms(one, inner[1]) for key, one in value.items()
        )
    if isinstance(value, bool):
        return hint is bool
    if isinstance(value, Tensor) and not holds_numbers(value):
        return False
    if isinstance(value, str) and not is_text(value):
        return False
    return isinstance(value, int | float if hint is float else hint)


def holds_numbers(value: Tensor) -> bool:
    """Whether a tensor has all of its numbers, rather than few that stand for very many."""
    return (
        value.layout == torch.strided
        and not value.is_quantized
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )


def _shown(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"a {type(value).__name__}"
