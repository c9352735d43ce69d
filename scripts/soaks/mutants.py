"""Bytes, words and trees of values, changed at random."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from random import Random
from typing import Any

import torch
from torch import Tensor


def nested(depth: int) -> list[Any]:
    """A list in a list in a list."""
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


#: What may stand for any value.
EXTREMES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 3, 2**31, 2**63, -(2**63), 10**12, 10**400),
    *(0.5, 1e-320, 1e308, -1e308, math.nan, math.inf, -math.inf),
    *("", "x", "auto", "???", "${seed}", "../..", "a=b", "ü ö", "\0", "\ud800"),
    *("9" * 400, "y" * 9999),
    *([], {}, [[]], [1, "a", None], {"a": {"b": []}}, {"": 0}, nested(200)),
)  # fmt: skip


def changed_bytes(chance: Random, content: bytes) -> bytes:
    """Flip, cut, insert, remove, move, empty or replace some."""
    kinds = "flip", "flip", "header", "cut", "insert", "remove", "move", "zero", "noise", "empty"
    kind, size = chance.choice(kinds), len(content)
    start, length = chance.randrange(size + 1), chance.choice((1, 4, 64, 4096))
    found = bytearray(content)
    if kind in ("flip", "header") and size:
        for _ in range(chance.choice((1, 1, 8, 64))):
            found[chance.randrange(size if kind == "flip" else min(size, 256))] ^= (
                1 << chance.randrange(8)
            )
    elif kind == "cut":
        del found[start:]
    elif kind == "insert":
        found[start:start] = chance.randbytes(length)
    elif kind == "remove":
        del found[start : start + length]
    elif kind == "move":
        part = bytes(found[start : start + length])
        del found[start : start + length]
        place = chance.randrange(len(found) + 1)
        found[place:place] = part
    elif kind == "zero":
        found[start : start + length] = bytes(len(found[start : start + length]))
    elif kind == "noise":
        return chance.randbytes(chance.choice((1, 100, 10_000)))
    elif kind == "empty":
        return b""
    return bytes(found)


def changed_text(chance: Random, text: str) -> str:
    """Remove, double, replace or insert a character or a piece."""
    start = chance.randrange(len(text) + 1)
    end = min(len(text), start + chance.choice((1, 1, 2, 5)))
    pieces = (
        *("'", '"', "[", "]", "{", "}", "(", ")", "=", ",", ":", "+", "~", "/", ".", ".."),
        *("???", "${", "}", "${seed}", "ü", "模", "🎲", "\\", "\t", "\n", "\x01", "@", "*"),
        *(" ", "-", "null", "nan", "1e400", "9" * 400, "\ud800", "\u2028", "true", "--"),
    )  # fmt: skip
    kind = chance.choice(("remove", "double", "replace", "insert", "insert"))
    piece = {"remove": "", "double": 2 * text[start:end]}.get(kind, chance.choice(pieces))
    return text[:start] + piece + text[start if kind == "insert" else end :]


def changed_tree(chance: Random, tree: dict[Any, Any]) -> tuple[dict[Any, Any], str]:
    """A copy in which one value, somewhere, is gone, renamed, moved or another; and what it was."""
    found = copy.deepcopy(tree)
    places = list(_places(found, ""))
    owner, key, where = chance.choice(places)
    kind = chance.choice(("delete", "rename", "swap", "other", "other", "other"))
    if kind == "delete" and isinstance(owner, dict):
        del owner[key]
    elif kind == "rename" and isinstance(owner, dict):
        owner[changed_text(chance, str(key))] = owner.pop(key)
    elif kind == "swap":
        other, another, also = chance.choice(places)
        owner[key], where = other[another], f"{where} by {also}"
    else:
        kind = "other"
        owner[key] = changed_value(chance, owner[key])
    return found, f"{kind} {where}"


def _places(node: Any, where: str) -> Iterator[tuple[Any, Any, str]]:
    """Every place in a tree of mappings and lists, those near the root again and again."""
    inner = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in inner:
        name = f"{where}.{key}"
        yield node, key, name
        if isinstance(value, dict | list) and value:
            yield from _places(value, name)


def changed_value(chance: Random, value: Any) -> Any:
    """Another value in its place, of the same kind or of any."""
    if isinstance(value, Tensor) and chance.random() < 0.8:
        return _changed_tensor(chance, value)
    if isinstance(value, int | float) and not isinstance(value, bool) and chance.random() < 0.5:
        return chance.choice((-value, value + 1, value * 10**6, value / 3, str(value), [value]))
    if isinstance(value, str) and chance.random() < 0.5:
        return changed_text(chance, value)
    return copy.deepcopy(chance.choice(EXTREMES))


def _changed_tensor(chance: Random, value: Tensor) -> Tensor:
    filled = [math.nan, math.inf, -math.inf, 1e30, 0.0] if value.is_floating_point() else [0, 2**40]
    kinds = (
        lambda: torch.full_like(value, chance.choice(filled)),
        lambda: value.to(chance.choice((torch.float16, torch.int64, torch.complex64, torch.bool))),
        lambda: value.flatten()[: chance.randrange(value.numel() + 1)].clone(),
        lambda: value[None].clone(),
        lambda: value.to_sparse() if value.ndim else value,
        lambda: torch.zeros(1).expand(10**6, 10**6),
        lambda: torch.empty(0),
        lambda: -value if value.dtype != torch.bool else ~value,
    )
    return chance.choice(kinds)()
