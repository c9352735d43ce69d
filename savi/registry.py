"""Names in a config, the Python objects they stand for, and the options that these declare."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from savi.errors import InputError, SettingError, unknown_option
from savi.settings import Bounds, bounds_of

T = TypeVar("T")

_WORDS = {float: "a number", int: "a whole number", bool: "true or false", str: "a word"}


class Choices(Mapping[str, T]):
    """The choices of one kind by their names, and the options that each of them takes.

    Attributes:
        kind: what they are, in the words of a config.

    Raises:
        InputError: for an unknown name (the known ones are listed).
    """

    def __init__(self, kind: str, entries: dict[str, T]) -> None:
        self.kind, self._entries = kind, entries

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

    @abstractmethod
    def options(self, name: str) -> dict[str, inspect.Parameter]:
        """What the choice ``name`` takes, with types and defaults."""

    @abstractmethod
    def hints(self, name: str) -> Mapping[str, Any]:
        """The types of its options as objects; an option that is missing may be anything."""

    @abstractmethod
    def bounds(self, name: str) -> Mapping[str, Bounds]:
        """What bounds the values of its options, of those that have bounds."""

    @abstractmethod
    def called(self, name: str) -> str:
        """The name of the class or function that is chosen."""

    @abstractmethod
    def doc(self, name: str) -> str:
        """The first line of what it says of itself."""

    def check(self, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options that are not None, if the choice ``name`` takes them.

        Raises:
            InputError: for an option that it does not take.
            SettingError: for a value of another type, and for an option that must be set.
        """
        known = self.options(name)
        given = {key: value for key, value in options.items() if value is not None}
        for key in given:
            if key not in known:
                takes = f"it takes {', '.join(known)}" if known else "it takes no options"
                raise InputError(
                    f"{self.kind} '{name}' has no option '{key}': {takes}, so set '{key}' to null"
                )
        for key, parameter in known.items():
            if key not in given and parameter.default is parameter.empty:
                raise SettingError(key, f"is not set: {self.kind} '{name}' has no default for it")
        hints = self.hints(name)
        return {key: _typed(key, value, hints.get(key, Any)) for key, value in given.items()}


class Registry(Choices[T]):
    """A mapping from config names to classes or functions, open to a user's own entries.

    >>> decoders = Registry("decoder")
    >>> @decoders.register("mine")
    ... class MyDecoder: ...
    >>> decoders["mine"].__name__
    'MyDecoder'

    What an entry can be called with is what it takes: the first ``supplied`` parameters come from
    whoever builds it, and those that follow, such as the fields of a dataclass, are its options.

    Args:
        kind: what the entries are, in the words of a config.
        supplied: how many parameters are no options.
        base: what every entry has to be derived from, if it is a class of that kind.

    Raises:
        InputError: for a name that is not registered (the known ones are listed), and for a name
            that is registered twice.
    """

    def __init__(self, kind: str, *, supplied: int = 0, base: type | None = None) -> None:
        super().__init__(kind, {})
        self.supplied, self.base = supplied, base
        self._reserved: frozenset[str] = frozenset()

    def register(self, name: str) -> Callable[[T], T]:
        """Decorate a class or function to make it known under ``name``.

        A class without a ``name`` of its own gets this one.
        """

        def add(entry: T) -> T:
            if name in self._entries:
                raise InputError(f"{self.kind} '{name}' is registered already: choose another name")
            if self._reserved:
                self._refuse_reserved(name, entry)
            if isinstance(entry, type) and "name" not in vars(entry):
                entry.name = name  # type: ignore[attr-defined]
            self._entries[name] = entry
            return entry

        return add

    def reserve(self, keys: Iterable[str]) -> None:
        """Keep keys of a config group from being options, whose values they would hide.

        Raises:
            InputError: for an entry, now or later, that has such an option.
        """
        self._reserved = frozenset(keys)
        for name, entry in self._entries.items():
            self._refuse_reserved(name, entry)

    def _refuse_reserved(self, name: str, entry: Any) -> None:
        for key in self._parameters(entry):
            if key in self._reserved:
                group = self.kind.partition(".")[0]
                raise InputError(
                    f"{self.kind} '{name}' has an option '{key}', which is a key of the group "
                    f"{group} already: give the option another name"
                )

    def options(self, name: str) -> dict[str, inspect.Parameter]:
        """What the entry ``name`` takes, with types and defaults.

        Raises:
            InputError: for an unknown name, and for a class that lacks what every entry has.
        """
        entry: Any = self[name]
        if isinstance(entry, type):
            self._check_class(name, entry)
        return self._parameters(entry)

    def hints(self, name: str) -> Mapping[str, Any]:
        """The types of its options as objects; an option that is missing may be anything."""
        return _hints(self[name])

    def bounds(self, name: str) -> Mapping[str, Bounds]:
        """What bounds the values of its options, of those that have bounds."""
        return bounds_of(self[name]) if is_dataclass(self[name]) else {}

    def called(self, name: str) -> str:
        """The name of the class or function that is chosen."""
        return str(getattr(self[name], "__name__", self[name]))

    def doc(self, name: str) -> str:
        """The first line of what it says of itself."""
        return (inspect.getdoc(self[name]) or "").partition("\n")[0]

    def _parameters(self, entry: Any) -> dict[str, inspect.Parameter]:
        parameters = list(inspect.signature(entry).parameters.values())[self.supplied :]
        return {p.name: p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}

    def _check_class(self, name: str, cls: type) -> None:
        owner = f"{self.kind} '{name}': class {cls.__name__}"
        if self.base is not None and not issubclass(cls, self.base):
            raise InputError(f"{owner} is no {self.base.__name__}: derive it from that class")
        if lacking := sorted(getattr(cls, "__abstractmethods__", ())):
            raise InputError(f"{owner} lacks {', '.join(lacking)}: define it")
        declared = [
            key
            for key, hint in vars(cls).get("__annotations__", {}).items()
            if key in vars(cls) and "ClassVar" not in str(hint)
        ]
        if declared and not ("__dataclass_fields__" in vars(cls) and is_dataclass(cls)):
            raise InputError(
                f"{owner} declares {', '.join(declared)} but is no dataclass: write @dataclass "
                "above it"
            )

    def build(self, name: str, options: Mapping[str, Any], *supplied: Any) -> Any:
        """The entry ``name``, called with what is supplied and the options that are not None.

        Raises:
            InputError: as :meth:`check`.
        """
        entry: Any = self[name]
        return entry(*supplied, **self.check(name, options))

    def chosen(self, group: Mapping[str, Any], *supplied: Any) -> Any:
        """The entry that a config group names under ``name``; the other keys are its options.

        Raises:
            InputError: as :meth:`check`.
        """
        options = {key: value for key, value in group.items() if key != "name"}
        return self.build(group["name"], options, *supplied)


def refuse_ambiguous(
    group: str,
    options: Mapping[str, Any],
    one: tuple[Choices[Any], str],
    other: tuple[Choices[Any], str],
) -> None:
    """Refuse an option of a config group that is set, and that two of its choices take.

    Each may mean something else by it, and only one of them would get it.

    Args:
        group: what the group is called.
        options: the values of the keys that are no keys of the group itself.
        one: choices of the group, and the name that is chosen of them.
        other: others.

    Raises:
        InputError: for the first such option, with the class of either choice.
    """
    takes = [registry.options(name) for registry, name in (one, other)]
    for key, value in options.items():
        if value is not None and all(key in known for known in takes):
            owners = " and of ".join(
                f"{registry.kind} '{name}' ({registry.called(name)})"
                for registry, name in (one, other)
            )
            raise InputError(
                f"{group}.{key} is an option of {owners}, and which of them is meant cannot be "
                "told: rename it in one of the two, or leave it out"
            )


def _hints(entry: Any) -> dict[str, Any]:
    """The types of an entry's parameters; none where they cannot be found out."""
    try:
        if is_dataclass(entry):
            return get_type_hints(entry)
        return get_type_hints(entry.__init__ if isinstance(entry, type) else entry)  # type: ignore[misc]
    except (NameError, TypeError):
        return {}


def _typed(key: str, value: Any, hint: Any) -> Any:
    """The value, an integer as a float where that is asked for; types that no config has pass.

    Raises:
        SettingError: for a value of another type.
    """
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if float in kinds and int not in kinds and type(value) is int:
        return float(value)
    names = [name for kind in kinds if get_origin(kind) is Literal for name in get_args(kind)]
    plain = [kind for kind in kinds if kind in _WORDS]
    others = not plain and not names
    if others or value in names or any(_fits(value, kind) for kind in kinds):
        return value
    words = [_WORDS[kind] for kind in plain]
    choices = [f"one of {', '.join(map(str, names))}"] if names else []
    raise SettingError(key, f"is '{value}': set it to {' or '.join(words + choices)}")


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a type; true and false are no numbers."""
    if not isinstance(kind, type) or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    return isinstance(value, kind)
