"""What the files in ``conf/`` say of themselves: the comment at the head, and one for each key."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

#: A key of a mapping in block style, its value, and the comment behind it.
_KEY = re.compile(r"( *)([\w.]+):(?: ((?:[^#]|(?<! )#)*))?(?:# (.*))?$")


def head_of(path: Path) -> str:
    """The comment with which a file begins, on one line; empty if there is none."""
    lines = []
    for line in path.read_text("utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line.removeprefix("#").strip())
    return " ".join(lines)


def first_sentence(text: str) -> str:
    """Of a comment or a docstring, without the full stop or the marks of code."""
    sentence = re.split(r"(?<=\w\w[.)])\s|(?<=\)\.)\s|[;:]\s", text, maxsplit=1)[0]
    return sentence.rstrip(".;:").replace("``", "").replace("`", "")


def comments_of(paths: Iterable[Path]) -> dict[str, str]:
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
    # The head is no key's.
    head = next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))
    above: list[str] = []
    for line in lines[head:]:
        if line.lstrip().startswith("# "):
            above.append(line.strip().removeprefix("# "))
            continue
        if match := _KEY.match(line):
            indent, key, _, behind = match.groups()
            owners = [(depth, name) for depth, name in owners if depth < len(indent)]
            owners.append((len(indent), key))
            if comment := behind or " ".join(above):
                found[".".join(name for _, name in owners)] = comment
        above = []
    return found
