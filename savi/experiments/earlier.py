"""What the run or the job in a folder was started with, also by an earlier version."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from savi.config.options import default_options
from savi.plugins import import_modules
from savi.runs.record import read_record
from savi.settings import flatten, key_of


def meant_by_absence(config: Mapping[str, Any], added: Iterable[str]) -> dict[str, Any]:
    """What a job of an earlier version meant by not having a key, by dotted name.

    A key that came later was at what is its value now, unless an override that the job did not
    have sets it: then it was at its default.

    Args:
        config: what the job's config is by this version.
        added: the overrides that the job did not have.
    """
    import_modules(config.get("imports", ()))
    given = {key_of(word) for word in added}
    within = tuple(f"{key}." for key in given)
    now, known = flatten(config), default_options(config)
    return {
        key: known.get(key) if key in given or key.startswith(within) else value
        for key, value in now.items()
    }


def overrides_of(folder: Path) -> list[str] | None:
    """The overrides of the job that a folder holds; None where its record does not tell."""
    command = read_record(folder).get("command")
    return shlex.split(command)[1:] if command else None
