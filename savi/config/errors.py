"""Hydra's and OmegaConf's errors in one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable

from hydra.errors import MissingConfigException, OverrideParseException

from savi.config import schema
from savi.settings import keys_of

#: How Hydra's complaint of flags that exclude each other begins.
CLASH = "Only one of --run, --multirun"


def sentence(error: BaseException, schemas: Iterable[type] = ()) -> str:
    """What is wrong, where, and what to set instead, on one line.

    ``schemas`` are those of configs that :mod:`savi.config.schema` does not hold.
    """
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, name = error.missing_cfg_file.rpartition("/")
        return f"unknown {group} '{name}': choose one of {', '.join(sorted(error.options))}"
    if isinstance(error, OverrideParseException):
        return f"cannot read '{error.override}': write KEY=VALUE, such as trainer.max_epochs=10"
    if str(error).startswith(CLASH):
        return "-m runs jobs, --cfg and --info only look: leave out one of them"
    if is_hydras(error):
        return "a group is set to something that is no name: write GROUP=NAME, or leave it out"
    # The first line says it; the rest is about OmegaConf's own objects.
    first_lines = [str(e).strip().partition("\n")[0] for e in (error, error.__cause__) if e]
    message = ": ".join(first_lines)
    if ambiguous := re.search("Ambiguous value for argument '([^']+)'", message):
        return f"{ambiguous[1]} has several values: add -m to run one job for each"
    unknown = re.search(r"override '([^']+)'.*Key '[^']+' not in '(\w+)'", message)
    if unknown:
        return f"unknown key '{unknown[1]}'{_choices(unknown[2], schemas)}"
    return re.sub(r"\s+", " ", message)


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
