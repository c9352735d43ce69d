"""Hydra's and OmegaConf's errors in one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from savi.config import schema
from savi.config.lightning import lightnings_refusal
from savi.config.words import unreadable
from savi.errors import InputError
from savi.settings import keys_of

#: How Hydra's complaint of flags that exclude each other begins.
CLASH = "Only one of --run, --multirun"


def sentence(error: BaseException, schemas: Iterable[type] = ()) -> str:
    """What is wrong, where, and what to set instead, on one line.

    ``schemas`` are those of configs that :mod:`savi.config.schema` does not hold.
    """
    if isinstance(error, InputError):
        return " ".join(str(error).split())
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, name = error.missing_cfg_file.rpartition("/")
        return f"unknown {group} '{name}': choose one of {', '.join(sorted(error.options))}"
    if isinstance(error, OverrideParseException):
        return unreadable(error.override)
    if str(error).startswith(CLASH):
        return "-m runs jobs, --cfg and --info only look: leave out one of them"
    if is_hydras(error):
        return "a group is set to something that is no name: write GROUP=NAME, or leave it out"
    # The first line says it; the rest is about OmegaConf's own objects.
    first_lines = [str(e).strip().partition("\n")[0] for e in (error, error.__cause__) if e]
    message = ": ".join(first_lines)
    if ambiguous := _AMBIGUOUS.search(message):
        word = ambiguous[1] or ambiguous[2]
        return f"{word} has several values: add -m to run one job for each"
    unknown = re.search(r"override '([^']+)'.*Key '[^']+' not in '(\w+)'", message)
    if unknown and (refusal := lightnings_refusal(unknown[1])):
        return refusal
    if unknown:
        return f"unknown key '{unknown[1]}'{_choices(unknown[2], schemas)}"
    message = re.sub(r"\s+", " ", message)
    if merging := re.match(r"Error merging override (.*?): (?=[A-Z]|field )(.*)", message):
        return f"'{merging[1]}' cannot be: {_advised(merging[2])}"
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        return f"{error.full_key}: {_advised(message)}"
    return _advised(message)


_AMBIGUOUS = re.compile("Ambiguous value for argument '([^']+)'|Sweep parameters '(.*)' requires")

#: What Hydra and OmegaConf say, and what is to be done about it.
_ADVICE = (
    ("could not be converted to Integer", "give a whole number"),
    ("could not be converted to Float", "give a number"),
    ("type hint 'Optional[Union[int, float]]'", "give a number"),
    ("is not a valid bool", "give true or false"),
    ("is not Optional", "null is no value for it, so leave it out or give one"),
    ("is not a subclass of", "it is a group of keys, so set one of them"),
    ("is not a ListConfig, list or tuple", "give a list, as in KEY=[a,b]"),
    ("to Dict[", "give a mapping, as in 'KEY={a: 1}'"),
    ("Cannot convert 'dict' to string", "it has a value, and no keys in it"),
    ("Missing mandatory value", "??? stands for a value that is missing, so give one"),
    ("Interpolation", "${...} stands for the value of another key, so name one, or quote a text"),
    ("An item is already at", "leave out the +"),
    ("No match in the defaults list", "there is no such group, so write GROUP=NAME or KEY=VALUE"),
)


def _advised(message: str) -> str:
    advice = next((what for sign, what in _ADVICE if sign in message), None)
    return message if advice is None else f"{message.rstrip('. ')}: {advice}"


def is_hydras(error: BaseException) -> bool:
    """Whether it is a plain ``ValueError`` that Hydra raises for a mistake in the input."""
    return isinstance(error, ValueError) and (
        "Config group override" in str(error) or str(error).startswith(CLASH)
    )


def _choices(schema_name: str, schemas: Iterable[type]) -> str:
    """The keys of the schema in which an unknown one was looked for."""
    others = {node.__name__: node for node in schemas}
    node = getattr(schema, schema_name, None) or others.get(schema_name)
    return f": choose one of {', '.join(sorted(keys_of(node)))}" if node else ""
