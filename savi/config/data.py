"""The schema of the config group ``data``, and what it leaves to the data set that it names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from savi.errors import InputError, unknown_option
from savi.registry import Choices
from savi.settings import setting

#: What values are divided by: nothing, one number, or one for each dimension.
SCALES = ("none", "global", "per_feature")

#: Whether and when pixels become ones and zeros: never, anew at every visit, or once for good.
BINARISATIONS = ("none", "dynamic", "static")

#: The order of an image's axes: [C, H, W] or [H, W, C].
LAYOUTS = ("channels_first", "channels_last")


@dataclass
class DataConfig:
    """The arguments of `savi.data.TensorDataModule`, which documents them.

    A ``val_size`` of 1 or more is a count of examples, below 1 it is a fraction of them.
    """

    name: str = "digits"
    path: str | None = None
    limit: int | None = setting(None, at_least=1)
    batch_size: int = setting(128, at_least=1)
    dequantise: bool = True
    centre: bool = True
    binarise: str = setting("none", one_of=BINARISATIONS)
    scale: str = setting("none", one_of=SCALES)
    layout: str = setting("channels_first", one_of=LAYOUTS)
    val_size: float = 0.1
    seed: int = setting(0, at_least=0)
    options: dict[str, Any] = field(default_factory=dict)


def check_data(sets: Choices[Any], name: str, path: str | None, options: Mapping[str, Any]) -> None:
    """Refuse a data set that there is not, and a path or options that it does not take.

    Args:
        sets: the known ones.
        name: of one of them.
        path: ``data.path``, which may not exist.
        options: ``data.options``.

    Raises:
        InputError: for the first that is wrong, and for a path that is needed and not given.
    """
    known = sets.options(name)
    takes_path = known.pop("path", None)
    for option in options:
        if option in known:
            continue
        if known:
            raise unknown_option(f"data.options of '{name}'", option, known)
        raise InputError(f"data set '{name}' has no options: remove '{option}' from data.options")
    if path is not None and takes_path is None:
        raise InputError(f"data set '{name}' reads no files: leave data.path at null")
    if path is None and takes_path is not None and takes_path.default is takes_path.empty:
        raise InputError(f"data set '{name}' needs data.path: set it to what is to be read")


def settings_of(
    sets: Choices[Any], name: str, path: str | None, options: Mapping[str, Any]
) -> dict[str, Any]:
    """What a data set's loader is to be called with: its options, and its path if it takes one.

    Raises:
        InputError: as :func:`check_data`, and for a path that does not exist.
    """
    check_data(sets, name, path, options)
    if path is None:
        return dict(options)
    try:
        file = Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(f"data.path '{path}' names an unknown user: write it out") from error
    if not path or not _exists(file):
        raise InputError(f"data.path '{path}' does not exist: set it to what '{name}' reads")
    return {**options, "path": file}


def _exists(path: Path) -> bool:
    """Whether there is something, also by a name that no file can have."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
