"""Hold ``savi/config/catalogue.json`` to the registries: ``python scripts/catalogue.py [--write]``.

The file is what ``savi-train --help`` and the refusal of a wrong option read in place of the
classes themselves, whose imports take seconds. Write it anew when choices or options change.
"""

import json
import re
import sys
from inspect import Parameter
from math import inf
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from savi.config.catalogue import FILE, HOMES, registry
from savi.registry import Registry
from savi.settings import Bounds


def described() -> str:
    """What the file should hold."""
    # All are imported before any is read: some entries are registered beside another kind's.
    registries = {kind: registry(kind) for kind in HOMES}
    kinds = {kind: _choices(found) for kind, found in registries.items()}
    return json.dumps(kinds, indent=1, ensure_ascii=False) + "\n"


def _choices(registry: Registry[Any]) -> dict[str, Any]:
    return {
        name: {
            "name": registry.called(name) if callable(entry) else name,
            "doc": registry.doc(name),
            # An activation is an object that takes none.
            "options": _options(registry, name) if callable(entry) else {},
        }
        for name, entry in registry.items()
    }


def _options(registry: Registry[Any], name: str) -> dict[str, Any]:
    hints, bounds = registry.hints(name), registry.bounds(name)
    options: dict[str, Any] = {}
    for key, parameter in registry.options(name).items():
        option = options[key] = {"type": _type(hints.get(key, Any))}
        if parameter.default is not Parameter.empty:
            option["default"] = parameter.default
        if told := _bounds(bounds.get(key, Bounds())):
            option["bounds"] = told
    return options


def _type(hint: Any) -> str:
    """A type without the modules that its parts are from."""
    return re.sub(r"[\w.]+\.", "", hint.__name__ if isinstance(hint, type) else str(hint))


def _bounds(bounds: Bounds) -> dict[str, Any]:
    told = {key: value for key, value in vars(bounds).items() if value is not None}
    if isinstance(bounds.one_of, Registry):
        told["one_of"] = bounds.one_of.kind
    elif bounds.one_of is not None:
        told["one_of"] = list(bounds.one_of)
    return {key: "inf" if value == inf else value for key, value in told.items()}


def main() -> int:
    """1 where the file is out of date and is not to be written."""
    told = described()
    current = FILE.is_file() and FILE.read_text("utf-8") == told
    print(f"{FILE.relative_to(ROOT)} is {'up to date' if current else 'out of date'}")
    if "--write" in sys.argv:
        FILE.write_text(told, "utf-8")
        return 0
    return int(not current)


if __name__ == "__main__":
    sys.exit(main())
