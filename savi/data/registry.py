"""The data sets by name, and the binding of a user's settings to a loader."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from savi.config.data import settings_of
from savi.data.raw import RawData
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
    return partial(DATASETS[name], **settings_of(DATASETS, name, path, options or {}))
