"""Choices about the inner problem that an optimiser or a gradient backend may refuse."""

from __future__ import annotations

from typing import NamedTuple

from savi.errors import InputError


class Choice(NamedTuple):
    """What a config calls a choice, and what to set instead of it."""

    name: str
    instead: str

    def refuse(self, owner: str, *, made: bool, reason: str, otherwise: str) -> None:
        """Refuse the choice if it was made and there is a reason against it.

        Args:
            owner: who refuses, as a config names it.
            made: whether it was made.
            reason: why not; empty if there is nothing against it.
            otherwise: what to set to keep the choice.

        Raises:
            InputError: if so, with the reason.
        """
        if made and reason:
            raise InputError(
                f"{owner} with {self.name}: {reason}, so set {self.instead} or {otherwise}"
            )


FRESH_NOISE = Choice("inner.noise 'fresh'", "inner.noise=crn")
TRUST_REGION = Choice("inner.objective 'trust_region'", "inner=proximal")
COMPILE = Choice("inner.compile", "inner.compile=false")
