"""What is done to the values of a data set, and refused where they have to stay as they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from savi.errors import Conflict, refuse

#: The settings of the group ``data`` that change values, and what leaves them as they are.
CHANGES = {"dequantise": False, "binarise": "none", "centre": False, "scale": "none"}


def refuse_changes(
    owner: str,
    data: Mapping[str, Any],
    changes: Iterable[str] = CHANGES,
    *,
    reason: str = "",
    otherwise: str = "",
) -> None:
    """Refuse settings that change values.

    Args:
        owner: the choice that leaves no room for them.
        data: the settings of the group; one that is not there changes nothing.
        changes: those that are refused.
        reason: why they are.
        otherwise: what to set instead of the owner.

    Raises:
        InputError: for the first that does.
    """
    conflicts = []
    for key in changes:
        kept = CHANGES[key]
        value = data.get(key, kept)
        choice = f"data.{key}" if value is True else f"data.{key} '{value}'"
        instead = f"data.{key}={str(kept).lower()}"
        conflicts.append(Conflict(value != kept, choice, instead, reason))
    refuse(owner, conflicts, otherwise)
