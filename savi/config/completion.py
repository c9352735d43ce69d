"""The words with which a command line of ``savi-train`` or ``savi-evaluate`` can go on.

Hydra has an answer of its own, which takes seconds and knows no registered names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf.errors import OmegaConfBaseException

from savi.config.catalogue import choices
from savi.config.help import FLAGS, names_in, own_values
from savi.config.options import CHOICES, own_options, register_groups
from savi.config.schema import Config, EvaluateConfig
from savi.config.words import modules_named
from savi.plugins import import_modules
from savi.settings import bounds_of, flatten
from savi.shells import paths

#: Keys whose values are paths.
PATHS = (
    *("checkpoint", "output", "data_path", "ood_path", "resume", "replay"),
    *("data.path", "hydra.run.dir", "hydra.sweep.dir", "logger.folder"),
)


def candidates(loader: ConfigLoader, config_name: str, words: list[str]) -> list[str]:
    """What the last one of the words may become; those before it choose what there is."""
    *earlier, word = words or [""]
    if word.startswith("-"):
        flags = [flag for names in FLAGS for flag in names.split(" ")[0:2]]
        names = (flag.strip(",") for flag in flags if flag.startswith("-"))
        return [name for name in names if name.startswith(word)]
    if modules := modules_named(earlier):
        import_modules(modules)
        register_groups()
    mark = word[: len(word) - len(word.lstrip("+~"))]
    key, equals, value = word.removeprefix(mark).partition("=")
    if not equals:
        given = [other for other in earlier if "=" in other and not other.startswith("-")]
        return [f"{mark}{k}" for k in _keys(loader, config_name, given) if k.startswith(key)]
    # With -m, values stand side by side.
    before, comma, last = value.rpartition(",")
    if key in PATHS or last.startswith(("./", "/", "~/")):
        known = paths(last)
    else:
        known = [name for name in _values(loader, config_name, key) if name.startswith(last)]
    return [f"{mark}{key}={before}{comma}{one}" for one in known]


def _keys(loader: ConfigLoader, config_name: str, given: list[str]) -> Iterator[str]:
    """The groups, and the keys of what was chosen so far, each with its =."""
    try:
        composed = loader.load_configuration(config_name, given, RunMode.MULTIRUN)
    except (HydraException, OmegaConfBaseException):
        # A word is wrong that a later one may yet put right.
        composed = loader.load_configuration(config_name, [], RunMode.MULTIRUN)
    config = own_values(composed, resolve=False)
    keys = {f"{key}=" for key in flatten(config)}
    if config_name == "config":
        keys |= {f"{group}=" for group in names_in(loader, "", ObjectType.GROUP)}
        keys |= {f"hydra/{group}=" for group in names_in(loader, "hydra", ObjectType.GROUP)}
        keys |= {"hydra.run.dir=", "hydra.sweep.dir="} | set(_options(config))
    yield from keys - {"hydra="}


def _options(config: Mapping[str, Any]) -> Iterator[str]:
    """The options of the choices in a config."""
    for group, kinds in CHOICES.items():
        for key, kind in kinds.items():
            known, name = choices(kind), config.get(group, {}).get(key)
            if name in known:
                yield from (f"{group}.{option}=" for option in own_options(known, name, group))


def _values(loader: ConfigLoader, config_name: str, key: str) -> Iterable[str]:
    """The names that a key can have: of a group, of what is registered, or of its bounds."""
    if config_name == "config" and (names := names_in(loader, key.replace(".", "/"))):
        return names
    group, _, name = key.rpartition(".")
    if kind := CHOICES.get(group, {}).get(name):
        return list(choices(kind))
    for kind in CHOICES.get(group, {}).values():
        known = choices(kind)
        for one in known:
            bounds = known.bounds(one).get(name)
            if bounds is not None and bounds.one_of is not None:
                return list(bounds.one_of)
    special = {"model.activation": "activation", "model.gamma.mode": "model.gamma.mode"}
    if kind := special.get(key, "data set" if key in ("data.name", "ood") else None):
        return list(choices(kind))
    schema: Any = Config if config_name == "config" else EvaluateConfig
    for part in filter(None, group.split(".")):
        schema = get_type_hints(schema).get(part)
        if not is_dataclass(schema):
            return ()
    for declared in fields(schema):
        if declared.name == name:
            bounds, hint = bounds_of(schema).get(name), get_type_hints(schema)[name]
            if bounds is not None and bounds.one_of is not None:
                return list(bounds.one_of)
            return ("true", "false") if bool in (hint, *get_args(hint)) else ()
    return ()
