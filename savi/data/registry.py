"""The data sets by name, and the binding of a user's settings to a loader."""

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
    """A data set's loader with its path, if it takes one, and options; nothing is loaded yet.

    Raises:
        InputError: for an unknown data set or option, for a path that does not exist, that the
            loader has no use for, or that it needs and was not given.
    """
    known, settings = DATASETS.options(name), dict(options or {})
    takes_path = known.pop("path", None)
    for option in settings:
        if option in known:
            continue
        if known:
            raise unknown_option(f"data.options of '{name}'", option, known)
        raise InputError(f"data set '{name}' has no options: remove '{option}' from data.options")
    if path is not None:
        if takes_path is None:
            raise InputError(f"data set '{name}' reads no files: leave data.path at null")
        try:
            settings["path"] = Path(path).expanduser()
        except RuntimeError as error:
            raise InputError(f"data.path '{path}' names an unknown user: write it out") from error
        if not path or not _exists(settings["path"]):
            raise InputError(f"data.path '{path}' does not exist: set it to what '{name}' reads")
    elif takes_path is not None and takes_path.default is takes_path.empty:
        raise InputError(f"data set '{name}' needs data.path: set it to what is to be read")
    return partial(DATASETS[name], **settings)


def _exists(path: Path) -> bool:
    """Whether there is something, also by a name that no file can have."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
