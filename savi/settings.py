"""Settings declared once, as dataclass fields with their bounds beside them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from savi.errors import SettingError

_BOUNDS = "savi.bounds"


@dataclass(frozen=True)
class Bounds:
    """What a setting may be; a bound of None does not bind, and None is always allowed.

    A value that is no number (NaN) is within no bound.
    """

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    one_of: Collection[Any] | None = None

    def check(self, name: str, value: Any) -> None:
        """Refuse a value outside.

        Raises:
            SettingError: with the name, the value, and what to set instead.
        """
        if value is None:
            return
        if self.one_of is not None and value not in self.one_of:
            known = ", ".join(sorted(str(choice) for choice in self.one_of))
            raise SettingError(name, f"is '{value}': choose one of {known}")
        for inside, advice in (
            (self.at_least is None or value >= self.at_least, f"to {self.at_least} or more"),
            (self.above is None or value > self.above, f"above {self.above}"),
            (self.at_most is None or value <= self.at_most, f"to {self.at_most} or less"),
            (self.below is None or value < self.below, f"below {self.below}"),
        ):
            if not inside:
                raise SettingError(name, f"is {value}: set it {advice}")


def setting(
    default: Any = MISSING,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    one_of: Collection[Any] | None = None,
) -> Any:
    """Declare a dataclass field with its bounds beside its default.

    >>> @dataclass
    ... class Stop:
    ...     rtol: float = setting(1e-3, at_least=0)
    """
    bounds = Bounds(at_least, above, at_most, below, one_of)
    return field(default=default, metadata={_BOUNDS: bounds})


def check_settings(settings: Any) -> None:
    """Refuse a dataclass one of whose fields is outside its bounds; for ``__post_init__``.

    Raises:
        SettingError: for the first such field.
    """
    for declared in fields(settings):
        if bounds := declared.metadata.get(_BOUNDS):
            bounds.check(declared.name, getattr(settings, declared.name))
