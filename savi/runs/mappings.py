"""Read JSON and YAML files that somebody may have torn, replaced or made up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from savi.settings import is_text

#: The most that a file may hold: bytes of YAML, whose reader is slow, and of JSON; entries, also
#: those that YAML's aliases repeat; and entries within each other.
YAML_BYTES, JSON_BYTES, ENTRIES, DEPTH = 1 << 20, 1 << 26, 1_000_000, 100

#: What no number of a run comes near; it has no more digits than can be printed.
LARGEST = 2**1024


class Unreadable(ValueError):
    """A file holds no mapping that can be used; says why, in words that follow its name."""


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping that a ``.json`` or ``.yaml`` file holds.

    Raises:
        OSError: if there is no such file, or it cannot be opened.
        Unreadable: if it holds anything else, or more than any run writes.
    """
    is_json = path.suffix == ".json"
    limit = JSON_BYTES if is_json else YAML_BYTES
    if path.exists() and not path.is_file() and not path.is_dir():
        # A pipe would be waited for.
        raise Unreadable("is no file")
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise Unreadable(f"cannot be read: it has more than {limit:,} bytes")
    try:
        text = content.decode("utf-8")
        found = json.loads(text) if is_json else yaml.safe_load(text)
    except RecursionError:
        raise Unreadable("cannot be read: it is nested too deeply") from None
    except Exception as error:  # YAML's constructors fail in any way they like.
        raise Unreadable(f"cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict):
        raise Unreadable("holds no mapping")
    check_size(found)
    # A part of YAML can be read too; its last value may be a part of a value.
    if not is_json and not text.endswith("\n"):
        raise Unreadable("is cut short")
    return {str(key): value for key, value in found.items()}


def check_size(content: Mapping[Any, Any]) -> None:
    """See that a walk through what a file held comes to an end, and that it can be printed.

    Raises:
        Unreadable: if not.
    """
    waiting: list[tuple[Any, int]] = [(content, 0)]
    entries = 0
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, dict | list | tuple | set):
            inner = value.values() if isinstance(value, dict) else value
            entries += len(value)
            if depth > DEPTH or entries > ENTRIES:
                raise Unreadable("cannot be read: it is nested too deeply, or repeats itself")
            waiting += [(one, depth + 1) for one in inner]
            if isinstance(value, dict):
                waiting += [(key, depth) for key in value if isinstance(key, str)]
        elif isinstance(value, str) and not is_text(value):
            raise Unreadable("cannot be read: it holds half of a surrogate pair, which is no text")
        elif isinstance(value, int) and abs(value) >= LARGEST:
            raise Unreadable("cannot be read: it holds a number of too many digits")
