"""A user's own modules, whose registered names configs may use."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import entry_points

from savi.errors import InputError

#: The group of entry points by which an installed package offers its modules to every run.
GROUP = "savi.plugins"


def import_modules(names: Iterable[str]) -> None:
    """Import modules by their names, and those that installed packages offer.

    Modules of the current folder are found too. A module is imported once in a process.

    Raises:
        InputError: for a module that is not found, or that fails.
    """
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    for name in names:
        _import(name, f"imports '{name}'")
    for plugin in entry_points(group=GROUP):
        _import(plugin.module, f"the plugin '{plugin.name}' of {GROUP}")


def _import(name: str, owner: str) -> None:
    try:
        import_module(name)
    except InputError:
        raise
    except Exception as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name is not None
        if missing and f"{name}.".startswith(f"{error.name}."):  # type: ignore[attr-defined]
            advice = (
                f"name the module, {name.removesuffix('.py')}, not its file"
                if name.endswith(".py")
                else "start in its folder, or add that to PYTHONPATH"
            )
            raise InputError(
                f"{owner}: there is no module '{error.name}' in {os.getcwd()} or on Python's path "  # type: ignore[attr-defined]
                f"({os.pathsep.join(filter(None, sys.path))}): {advice}"
            ) from error
        problem = " ".join(str(error).split())
        raise InputError(f"{owner} fails with {type(error).__name__}: {problem}") from error
