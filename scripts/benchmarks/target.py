"""What a benchmark asks of a measurement."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A measured ratio and the range in which it should lie.

    Attributes:
        ratio: what was measured, in units of ``base``.
        base: what it is compared with, in words.
        most: the upper end of the range.
        least: its lower end; 0 where less is only better. Without an upper end, ``most`` is
            infinite.
    """

    ratio: float
    base: str
    most: float
    least: float = 0.0

    @property
    def met(self) -> bool:
        """Whether the ratio lies in the range."""
        return self.least <= self.ratio <= self.most

    def __str__(self) -> str:
        if not self.least:
            span = f"at most {self.most:g}"
        elif self.most == float("inf"):
            span = f"at least {self.least:g}"
        else:
            span = f"{self.least:g} to {self.most:g}"
        return f"{self.ratio:.2f} × {self.base}, {span}: {'met' if self.met else 'MISSED'}"
