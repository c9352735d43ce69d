"""The words of a command line: what is wrong with those that Hydra cannot read."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import is_dataclass
from typing import get_type_hints

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from savi.config.schema import Config
from savi.errors import InputError
from savi.settings import key_of

EXAMPLE = "write KEY=VALUE, such as trainer.max_epochs=10"

#: What a key consists of: names and dots, slashes and an @ for groups.
_KEY = re.compile(r"[+~]*[\w$][\w$.@/:-]*", re.ASCII)

_PAIRS = {"[": "]", "{": "}", "(": ")"}

#: The groups of a run, each of which is chosen by a name.
GROUPS = (
    *(name for name, kind in get_type_hints(Config).items() if is_dataclass(kind)),
    *("experiment", "sweep", "debug"),
)


def check_words(words: Sequence[str], groups: Collection[str] = GROUPS) -> None:
    """Refuse words of which Hydra would make something else, or nothing that says what is wrong.

    Args:
        words: of the command line.
        groups: the keys by which a choice is named.

    Raises:
        InputError: for the first of them.
    """
    for word in words:
        if not word.isascii() and any("\ud800" <= letter <= "\udfff" for letter in word):
            raise InputError(f"cannot read {word!r}: it is no text in UTF-8")
        key, equals, _ = word.partition("=")
        if equals and not key.strip("+~ "):
            raise InputError(f"cannot read '{word}': there is no key before the '=', so {EXAMPLE}")
        if equals and key in groups:
            _check_group(key, word)


def _check_group(group: str, word: str) -> None:
    try:
        override = OverridesParser.create().parse_override(word)
        value = None if override.is_sweep_override() else override.value()
    except HydraException:
        return  # Which says what is wrong.
    if isinstance(value, list):
        raise InputError(
            f"'{word}' is a list, and a group has one choice: write {group}=NAME, or -m "
            f"{group}=NAME,NAME to run one job for each"
        )
    if isinstance(value, int | float):
        raise InputError(
            f"a group is set to something that is no name ('{word}'): write {group}=NAME, or "
            "leave it out"
        )


def modules_named(words: Sequence[str]) -> list[str]:
    """The modules that ``imports=[...]`` names among the words of a command line."""
    given = [word for word in words if key_of(word) == "imports"]
    values = [override.value() for override in OverridesParser.create().parse_overrides(given)]
    return [str(name) for names in values if isinstance(names, list) for name in names]


def repeated(words: Sequence[str]) -> list[str]:
    """A remark for every key that is given more than once."""
    last = {key_of(word): word for word in words if "=" in word and not word.startswith("~")}
    counts = Counter(key_of(word) for word in words if "=" in word and not word.startswith("~"))
    return [
        f"{key} is given {'twice' if count == 2 else f'{count} times'}, of which the last one "
        f"counts: {last[key]}"
        for key, count in counts.items()
        if count > 1
    ]


def unreadable(word: str) -> str:
    """What is wrong with a word that Hydra cannot read, and what to write instead."""
    key, equals, value = word.partition("=")
    said = f"cannot read '{word}'"
    if not equals:
        return f"{said}: {EXAMPLE}"
    if not _KEY.fullmatch(key):
        return f"{said}: '{key}' is no key, so {EXAMPLE}"
    for quote in "'\"":
        if value.startswith(quote) and not (len(value) > 1 and value.endswith(quote)):
            return f"{said}: the quote {quote} is not closed"
    if value[:1] in ("[", "{"):
        if not value.endswith(_PAIRS[value[0]]):
            return f"{said}: the '{value[0]}' is not closed"
        element = "[1, 'a=b']" if value[0] == "[" else "{key: 'a=b'}"
        return f"{said}: quote the texts in it, as in {shlex.quote(f'{key}={element}')}"
    inner = value.strip("'\"").rstrip("\\").replace('"', '\\"')
    quoted = f'{key}="{inner}"'
    return f"{said}: quote the value: {shell_quoted(quoted)}"


def shell_quoted(word: str) -> str:
    """A word for a shell, in single quotes where it has none of its own."""
    return f"'{word}'" if "'" not in word else shlex.quote(word)
