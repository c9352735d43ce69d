"""What a config may choose, and the options of each choice, known without PyTorch.

The classes and functions that a config names declare their options themselves, as fields or
keywords; but to import them takes seconds, and ``--help``, a completion or a refusal must not take
them. These read ``catalogue.json``, which ``python scripts/catalogue.py --write`` takes from the
registries, and which a test holds to them. Once a registry is there, because a run begins or a
user's own module has imported it to add to it, it is asked itself. (To move PyTorch out of
the modules instead would part every class from its options.)
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from inspect import Parameter
from math import inf
from pathlib import Path
from typing import Any, Union

from savi.registry import Choices, Registry
from savi.settings import Bounds, is_whole

FILE = Path(__file__).with_name("catalogue.json")

#: Where the registries are, by their kinds.
HOMES = {
    "activation": "savi.vae.networks:ACTIVATIONS",
    "data set": "savi.data:DATASETS",
    "decoder": "savi.vae:DECODERS",
    "encoder": "savi.vae:ENCODERS",
    "encoder_loss": "savi.inference:ENCODER_LOSSES",
    "gradient": "savi.gradients:BACKENDS",
    "inner.objective": "savi.inner:OBJECTIVES",
    "inner.optimizer": "savi.inner:OPTIMIZERS",
    "model.gamma.mode": "savi.vae:VARIANCES",
    "model.likelihood": "savi.vae:LIKELIHOODS",
    "model.prior": "savi.vae:PRIORS",
    "optimizer": "savi.training.outer_optimizers:OUTER_OPTIMIZERS",
    "posterior": "savi.vae:POSTERIORS",
    "solver": "savi.linear:SOLVERS",
}


def choices(kind: str) -> Choices[Any]:
    """The choices of a kind: its registry once that has been imported, else the catalogue's."""
    imported = HOMES[kind].partition(":")[0] in sys.modules
    return registry(kind) if imported else catalogued()[kind]


def registry(kind: str) -> Registry[Any]:
    """The registry of a kind itself, which is imported if need be, with all that savi has."""
    found = _at(HOMES[kind])
    if not set(catalogued()[kind]) <= set(found):
        # Some of what one registry holds is registered where another one lives.
        for home in HOMES.values():
            _at(home)
    return found


def _at(home: str) -> Registry[Any]:
    module, _, name = home.partition(":")
    found: Registry[Any] = getattr(import_module(module), name)
    return found


class Names(Collection[str]):
    """The names of the choices of a kind, for a bound."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __contains__(self, name: object) -> bool:
        return name in choices(self.kind)

    def __iter__(self) -> Iterator[str]:
        return iter(choices(self.kind))

    def __len__(self) -> int:
        return len(choices(self.kind))


@dataclass(frozen=True)
class Option:
    """An option as its choice declares it; without a ``default`` it has to be set."""

    type: str
    default: Any = Parameter.empty
    bounds: Bounds = field(default_factory=Bounds)


@dataclass(frozen=True)
class Entry:
    """A choice: what its class or function is called, and the first line of what it says."""

    name: str
    doc: str
    options: Mapping[str, Option]


class Foreign:
    """Stands for every type that no value of a config has."""


#: The types that values of a config have, by their names.
TYPES = {kind.__name__: kind for kind in (bool, int, float, str)}


class Catalogued(Choices[Entry]):
    """The choices of a kind that come with savi, without their classes."""

    def options(self, name: str) -> dict[str, Parameter]:
        """What the choice ``name`` takes, with types and defaults."""
        return {
            key: Parameter(key, Parameter.KEYWORD_ONLY, default=o.default, annotation=o.type)
            for key, o in self[name].options.items()
        }

    def hints(self, name: str) -> Mapping[str, Any]:
        """The types of its options as objects."""
        kinds = {key: option.type.split(" | ") for key, option in self[name].options.items()}
        return {
            key: Union[tuple(TYPES.get(word, Foreign) for word in words)]  # noqa: UP007
            for key, words in kinds.items()
        }

    def bounds(self, name: str) -> Mapping[str, Bounds]:
        """What bounds the values of its options."""
        return {key: option.bounds for key, option in self[name].options.items()}

    def called(self, name: str) -> str:
        """The name of the class or function that is chosen."""
        return self[name].name

    def doc(self, name: str) -> str:
        """The first line of what it says of itself."""
        return self[name].doc

    def check(self, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """As the class would, which refuses values out of bounds when it is built."""
        checked = super().check(name, options)
        for key, value in checked.items():
            option = self[name].options[key]
            option.bounds.check(key, value, is_whole(option.type))
        return checked


@cache
def catalogued() -> dict[str, Catalogued]:
    """All that the file holds, by kind."""
    kinds = json.loads(FILE.read_text("utf-8"))
    return {
        kind: Catalogued(kind, {name: _entry(told) for name, told in entries.items()})
        for kind, entries in kinds.items()
    }


def _entry(told: Mapping[str, Any]) -> Entry:
    options = {
        key: Option(**{**option, "bounds": _bounds(option.get("bounds", {}))})
        for key, option in told["options"].items()
    }
    return Entry(told["name"], told["doc"], options)


def _bounds(told: Mapping[str, Any]) -> Bounds:
    # JSON has no infinity.
    bounds: dict[str, Any] = {k: inf if value == "inf" else value for k, value in told.items()}
    if isinstance(kind := bounds.get("one_of"), str):
        bounds["one_of"] = Names(kind)
    return Bounds(**bounds)
