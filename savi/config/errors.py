"""Hydra's and OmegaConf's errors in one sentence."""

from __future__ import annotations

import re

from hydra.errors import MissingConfigException
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException


def sentence(error: BaseException) -> str:
    """What is wrong, where, and what to set instead, on one line."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, name = error.missing_cfg_file.rpartition("/")
        return f"unknown {group} '{name}': choose one of {', '.join(sorted(error.options))}"
    cause = error.__cause__
    if isinstance(error, ConfigKeyError) or isinstance(cause, ConfigKeyError):
        return _unknown_key(error if isinstance(error, ConfigKeyError) else cause)  # type: ignore[arg-type]
    parts = [str(error)]
    if isinstance(cause, OmegaConfBaseException):
        parts.append(str(cause))
    return re.sub(r"\s+", " ", ": ".join(parts)).strip()


def _unknown_key(error: ConfigKeyError) -> str:
    where = error.full_key or str(error.key)
    known = sorted(map(str, error.parent_node.keys())) if error.parent_node is not None else []
    return f"unknown key '{where}'" + (f": choose one of {', '.join(known)}" if known else "")
