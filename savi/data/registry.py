"""The data sets by name, and the binding of a user's settings to a loader."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from savi.data.raw import RawData
from savi.errors import InputError, unknown_option
from savi.registry import Registry

DATASETS: Registry[Callable[..., RawData]] = Registry("data set")


def bind(
    name: str, path: str | None = None, options: Mapping[str, Any] | None = None
) -> Callable[[], RawData]:
    """A data set's loader with its settings filled in; nothing is loaded yet.

    Args:
        name: One of `DATASETS`.
        path: The file or folder to read, for loaders with a parameter ``path``.
        options: Values for the loader's keyword parameters.

    Raises:
        InputError: for an unknown data set or option, for a path that does not exist, that the
            loader has no use for, or that it needs and was not given.
    """
    load = DATASETS[name]
    known = dict(inspect.signature(load).parameters)
    takes_path = known.pop("path", None)
    for option in options or {}:
        if option not in known:
            raise _unknown(name, option, known)
    settings = dict(options or {})
    if path is not None:
        if takes_path is None:
            raise InputError(f"data set '{name}' reads no files: leave data.path at null")
        settings["path"] = Path(path).expanduser()
        if not settings["path"].exists():
            raise InputError(f"data.path '{path}' does not exist: set it to what '{name}' reads")
    elif takes_path is not None and takes_path.default is inspect.Parameter.empty:
        raise InputError(f"data set '{name}' needs data.path: set it to what is to be read")
    return partial(load, **settings)


def _unknown(name: str, option: str, known: Mapping[str, object]) -> InputError:
    if known:
        return unknown_option(f"data.options of '{name}'", option, known)
    return InputError(f"data set '{name}' has no options: remove '{option}' from data.options")
