"""Names in a config and the Python objects they stand for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import Any, TypeVar

from savi.errors import InputError, unknown_option

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """A mapping from config names to classes or functions, open to a user's own entries.

    >>> decoders = Registry("decoder")
    >>> @decoders.register("mine")
    ... class MyDecoder: ...
    >>> decoders["mine"].__name__
    'MyDecoder'

    Raises:
        InputError: for a name that is not registered (the known ones are listed), and for a name
            that is registered twice.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorate a class or function to make it known under ``name``."""

        def add(entry: T) -> T:
            if name in self._entries:
                raise InputError(f"{self.kind} '{name}' is registered already: choose another name")
            self._entries[name] = entry
            return entry

        return add

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            raise unknown_option(self.kind, name, self._entries)
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


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
