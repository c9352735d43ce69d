"""Settings declared once, as dataclass fields with their bounds beside them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from math import inf
from numbers import Integral
from typing import Any, get_type_hints

from savi.errors import SettingError, within

#: Where the metadata of a field hold its :class:`Bounds`.
BOUNDS = "savi.bounds"


#: Beyond it torch takes no size, which would not fit into any memory.
LARGEST = 2**62


@dataclass(frozen=True)
class Bounds:
    """What a setting may be: a name of ``one_of``, or a number within the other bounds.

    A bound of None does not bind, and a value of None is always allowed. A value that is no number
    (NaN) is within no bound.
    """

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    one_of: Collection[str] | None = None

    def check(self, name: str, value: Any, whole: bool = False) -> None:
        """Refuse a value outside, and a number that is not ``whole`` where it has to be.

        Raises:
            SettingError: with the name, the value, and what to set instead.
        """
        if isinstance(value, str) and self.one_of is not None and value not in self.one_of:
            known = ", ".join([*sorted(self.one_of), *(["a number"] if whole else [])])
            raise SettingError(name, f"'{value}': choose one of {known}", before="unknown ")
        if value is None or isinstance(value, str):
            return
        if whole and isinstance(value, Integral) and abs(int(value)) > LARGEST:
            raise SettingError(name, f"has {len(str(abs(value)))} digits: set it to fewer")
        for inside, advice in (
            (self.at_least is None or value >= self.at_least, f"to {self.at_least} or more"),
            (self.above is None or value > self.above, f"above {self.above}"),
            (self.at_most is None or value <= self.at_most, f"to at most {self.at_most}"),
            (self.below is None or value < self.below, f"below {self.below}"),
            (not whole or (isinstance(value, Integral) and value is not True), "to a whole number"),
        ):
            if not inside:
                advice = {"below inf": "to a finite number"}.get(advice, advice)
                raise SettingError(name, f"is {value}: set it {advice}")


def setting(
    default: Any = MISSING,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    one_of: Collection[str] | None = None,
) -> Any:
    """A dataclass field with its bounds.

    As in ``rtol: float = setting(1e-3, at_least=0)``. A number in a field that is declared an
    ``int`` has to be whole.
    """
    bounds = Bounds(at_least, above, at_most, below, one_of)
    return field(default=default, metadata={BOUNDS: bounds})


def is_whole(kind: object) -> bool:
    """Whether numbers of a declared type, or of the text of one, have to be whole."""
    names = re.findall(r"\w+", str(kind))
    return "int" in names and "float" not in names


def positive(default: float | None) -> Any:
    """A dataclass field for a finite number above 0."""
    return setting(default, above=0, below=inf)


def keys_of(schema: Any) -> list[str]:
    """The keys that a dataclass declares, in its order."""
    return [declared.name for declared in fields(schema)]


def bounds_of(schema: Any) -> dict[str, Bounds]:
    """The bounds of those fields of a dataclass that have some."""
    return {
        declared.name: declared.metadata[BOUNDS]
        for declared in fields(schema)
        if BOUNDS in declared.metadata
    }


def check_settings(schema: Any, values: Mapping[str, Any]) -> None:
    """Refuse values outside the bounds of a dataclass, and of the dataclasses that it holds.

    A field without a value passes, as does a value without a field.

    Args:
        schema: the dataclass.
        values: a value for each field; those of a dataclass that it holds are another mapping.

    Raises:
        SettingError: for the first such value, by the path to it (``model.kl.weight``).
    """
    for declared in fields(schema):
        value = values.get(declared.name)
        if isinstance(value, Mapping):
            kind = get_type_hints(schema)[declared.name]
            if isinstance(kind, type) and is_dataclass(kind):
                with within(declared.name):
                    check_settings(kind, value)
        elif bounds := declared.metadata.get(BOUNDS):
            bounds.check(declared.name, value, is_whole(declared.type))


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key to value, in the config's order; a list is a value.

    >>> flatten({"seed": 0, "inner": {"rho": 1.0}})
    {'seed': 0, 'inner.rho': 1.0}
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat


def key_of(override: str) -> str:
    """The key of ``KEY=VALUE``, without the marks that add or delete one."""
    return override.partition("=")[0].lstrip("+~")


class Checked:
    """A base of dataclasses that refuse fields outside their bounds when they are built."""

    def __post_init__(self) -> None:
        """Check all fields.

        Raises:
            SettingError: for the first one outside.
        """
        check_settings(type(self), vars(self))


def is_text(value: str) -> bool:
    """Whether a string can be written: JSON and pickles can spell what no text holds."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
