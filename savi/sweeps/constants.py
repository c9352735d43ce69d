"""A sweep that is taken up again keeps the settings that it does not sweep."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from savi.config.store import plain
from savi.errors import InputError
from savi.experiments.earlier import meant_by_absence, overrides_of
from savi.runs.folder import differences, read_config
from savi.runs.record import RECORD
from savi.settings import flatten, key_of

#: So many changed settings are named.
NAMED = 3


def refuse_other_constants(
    folder: Path, config_name: str | None, swept: Collection[str], constants: Sequence[str]
) -> None:
    """Refuse to go on with a sweep under another value of a setting that it does not sweep.

    Half of its jobs would have the one and half the other, and nothing in their names would tell.
    An earlier job's config is compared with the one that the same job would have now. All have the
    same constants, so that the first one that can still be composed is enough; of those that have
    other keys, because of their choices or their version, the first as well.

    Args:
        folder: the folder of the sweep, which need not exist.
        config_name: the primary config.
        swept: the keys that are swept, or were.
        constants: the other overrides.

    Raises:
        InputError: with the keys, the old and the new values.
    """
    compared = set()
    for overrides, earlier in _earlier_jobs(folder):
        if (keys := frozenset(flatten(earlier))) in compared:
            continue
        own = [word for word in overrides if key_of(word) in swept]
        try:
            now = _composed(config_name, [*own, *constants])
        except (HydraException, OmegaConfBaseException):
            continue
        added = [word for word in constants if word not in overrides]
        if changed := differences(earlier, now, meant_by_absence(now, added)):
            raise InputError(_sentence(folder, changed))
        compared.add(keys)


def _earlier_jobs(folder: Path) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """The overrides and the config of each job that has begun."""
    for record in sorted(folder.glob(f"*/{RECORD}")):
        overrides, config = overrides_of(record.parent), read_config(record.parent)
        if overrides is not None and config is not None:
            yield overrides, config


def _composed(config_name: str | None, overrides: list[str]) -> dict[str, Any]:
    """The config of a job, as its run folder would hold it."""
    config = compose(config_name, overrides, return_hydra_config=True)
    values = plain(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]))
    return values | {"experiment": config.hydra.runtime.choices.get("experiment")}


def _sentence(folder: Path, changed: Mapping[str, tuple[Any, Any]]) -> str:
    some = list(changed.items())[:NAMED]
    before, now = (
        ", ".join(f"{key}={_shown(values[side])}" for key, values in some) for side in (0, 1)
    )
    more = f" ({len(changed) - NAMED} more keys differ)" if len(changed) > NAMED else ""
    return (
        f"the sweep in '{folder}' was begun with {before} and would go on with {now}{more}: keep "
        "the old value, sweep over it, or choose another hydra.sweep.dir"
    )


def _shown(value: Any) -> str:
    """A value as an override would write it."""
    plain_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if plain_number or isinstance(value, str) else json.dumps(value)
