"""What is done about an example that breaks a condition of the implicit function theorem."""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum

from savi.errors import unknown_option


class OnFailure(Enum):
    """The policies, of which every user of the theorem supports some.

    ``warn`` uses the derivative and warns; ``raise`` raises; ``mask`` drops the theorem's part of
    it, which leaves the direct gradient; ``damp`` takes that of a regularised problem
    (:func:`savi.implicit.damping.damped`); ``fallback`` differentiates the steps that were taken
    instead (``unrolled``, recomputed); ``silent`` uses it and leaves it to the certificate;
    ``skip`` leaves out the step that it was for.
    """

    WARN = "warn"
    RAISE = "raise"
    MASK = "mask"
    DAMP = "damp"
    FALLBACK = "fallback"
    SILENT = "silent"
    SKIP = "skip"

    @classmethod
    def named(
        cls, name: str, supported: Collection[OnFailure], setting: str = "on_failure"
    ) -> OnFailure:
        """The policy of that name, if it is supported.

        Args:
            name: as a user gives it.
            supported: those to choose from.
            setting: what the choice is called.

        Raises:
            InputError: if it is not, with the supported ones.
        """
        names = [policy.value for policy in supported]
        if name not in names:
            raise unknown_option(setting, name, names)
        return cls(name)


#: The policies that need no warning about failed examples: something is done about them, or they
#: are left to the certificate.
HANDLED = frozenset(
    {OnFailure.MASK, OnFailure.DAMP, OnFailure.FALLBACK, OnFailure.SILENT, OnFailure.SKIP}
)
