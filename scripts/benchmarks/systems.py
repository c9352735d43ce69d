"""What systems under test share: the packages that they need, and who is tested where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar, TypeVar

from savi.errors import InputError

REMEDY = "pip install 'savi-vae[bench]'"


class Lazy:
    """A module that is imported at the first look into it: a system may not be installed."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self._module), name)


class TestedSystem:
    """A library under test, this one or another."""

    packages: ClassVar[tuple[str, ...]]  # what must be installed

    @classmethod
    def is_installed(cls) -> bool:
        """Whether the system can be tested here."""
        return all(find_spec(package) is not None for package in cls.packages)

    @classmethod
    def is_ours(cls) -> bool:
        """Whether it is this library."""
        return cls.packages == ("savi",)


SystemT = TypeVar("SystemT", bound=TestedSystem)


def chosen(
    systems: Mapping[str, type[SystemT]], names: Sequence[str] | None
) -> tuple[list[str], list[str]]:
    """The names of the systems to test, this library's first, and of those not installed.

    Raises:
        InputError: for a name that is not known, or whose package is not installed.
    """
    for name in names or ():
        if not systems[name].is_installed():
            needed = " and ".join(systems[name].packages)
            raise InputError(f"system '{name}' needs {needed}: {REMEDY}")
    wanted = names or sorted(systems, key=lambda name: not systems[name].is_ours())
    absent = [name for name in wanted if not systems[name].is_installed()]
    return [name for name in wanted if name not in absent], absent


def tell_left_out(what: Sequence[str]) -> None:
    """Name what is not installed, if anything."""
    if what:
        print(f"not installed, left out: {', '.join(what)} ({REMEDY})", flush=True)
