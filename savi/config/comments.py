"""What the files in ``conf/`` say of themselves: a line at the head, and one for each key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

#: A key of a mapping in block style with its indent, and the comment behind its value.
_KEY = re.compile(r"( *)([\w.]+):(?:.*? # (.*)|.*)")


def head_of(path: Path) -> str:
    """The first line of the comment with which a file begins; empty if there is none."""
    for line in path.read_text("utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            return line.removeprefix("#").strip()
    return ""


def comments_of(paths: Iterable[Path]) -> Mapping[str, str]:
    """Dotted key to comment, which stands behind the key or on the lines above it.

    Where several files comment on a key, the first one counts.
    """
    found: dict[str, str] = {}
    for path in paths:
        found = _comments(path.read_text("utf-8").splitlines()) | found
    return found


def _comments(lines: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    owners: list[tuple[int, str]] = []
    above: list[str] = []
    # The head is no key's.
    head = next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))
    for line in lines[head:]:
        if line.lstrip().startswith("# "):
            above.append(line.strip().removeprefix("# "))
            continue
        if match := _KEY.fullmatch(line):
            indent, key, behind = match.groups()
            owners = [(depth, name) for depth, name in owners if depth < len(indent)]
            owners.append((len(indent), key))
            if comment := behind or " ".join(above):
                found[".".join(name for _, name in owners)] = comment
        above = []
    return found
