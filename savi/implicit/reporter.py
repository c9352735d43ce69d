"""How the certificates speak: every time, with counts, and without flooding a loop.

Python shows a warning of the same text from the same line once per process, so that a second bad
solve would be silent. Here each one is spoken; from one line of the caller's code that repeats a
kind very often only some are, and what was left out is counted at the end of the process. A
training run collects them instead (:func:`collected`), and says each kind once an epoch.
"""

from __future__ import annotations

import atexit
import math
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from savi.errors import ImplicitGradientError
from savi.implicit.policy import HANDLED, OnFailure

#: So many warnings of a kind from one line are all spoken; afterwards each power of two of them.
MANY = 2048

#: Where frames are not the caller's: folders, not what merely begins like their names.
_OWN = tuple(f"{folder}{os.sep}" for folder in (Path(__file__).parents[1], *torch.__path__))


class ImplicitGradientWarning(UserWarning):
    """An implicit gradient was taken where the theorem's conditions do not hold."""


class SmoothnessNote(UserWarning):
    """F is smooth only in pieces; said once a run."""


#: What a certificate says in words.
CERTIFICATE_WARNINGS = (ImplicitGradientWarning, SmoothnessNote)


class Finding(NamedTuple):
    """What a certificate has to say of one kind.

    Attributes:
        kind: a sentence without numbers.
        examples: how many examples it is about; 0 where there is only one thing to be about.
        total: of how many.
        error: the largest estimated error among them, if there is an estimate.
    """

    kind: str
    examples: int = 0
    total: int = 0
    error: float = 0.0

    def __str__(self) -> str:
        figures = [f"{self.examples} of {self.total} examples"] if self.total else []
        if 0.0 < self.error < math.inf:
            figures.append(f"estimated error up to {self.error:.2g}")
        return f"{self.kind} [{', '.join(figures)}]" if figures else self.kind

    def __add__(self, other: tuple[Any, ...]) -> Finding:
        """Both of one kind."""
        _, examples, total, error = other
        worst = max(self.error, error)
        return Finding(self.kind, self.examples + examples, self.total + total, worst)


class Tally(dict[str, tuple[int, Finding]]):
    """The findings of a stretch of training: how often each kind was found, and all of it."""

    def add(self, message: str, findings: Sequence[Finding]) -> None:
        """Count what one solve has found."""
        for finding in findings or [Finding("")]:
            kind = f"{message}: {finding.kind}" if finding.kind else message
            solves, before = self.get(kind, (0, Finding(kind)))
            self[kind] = solves + 1, before + finding

    def lines(self) -> list[str]:
        """A line for each kind; the tally is empty afterwards."""
        found = [f"{finding}, {solves:,} times" for solves, finding in self.values()]
        self.clear()
        return found


_tallies: list[Tally] = []
_heard: dict[tuple[str, str, int], int] = {}
_spoken: dict[tuple[str, str, int], int] = {}


@contextmanager
def collected() -> Iterator[Tally]:
    """Inside, findings are counted and not spoken; an inner one keeps them from an outer one."""
    tally = Tally()
    _tallies.append(tally)
    try:
        yield tally
    finally:
        _tallies.remove(tally)


def say(
    message: str,
    findings: Sequence[Finding],
    category: type[Warning] = ImplicitGradientWarning,
) -> None:
    """Warn of what one solve has found, at the line of the caller's code that led here."""
    if _tallies:
        _tallies[-1].add(message, findings)
        return
    file, line, module = _caller()
    place = ("; ".join(finding.kind for finding in findings) or category.__name__, file, line)
    _heard[place] = count = _heard.get(place, 0) + 1
    if count > MANY and count & (count - 1):
        return
    since = count - _spoken.get(place, 0) - 1
    _spoken[place] = count
    repeated = f" (the {count:,}th time here, {since:,} since the last one told)" if since else ""
    text = ": ".join([message, *(["; ".join(map(str, findings))] if findings else [])]) + repeated
    # A registry of its own: with Python's, the same text would be shown once.
    warnings.warn_explicit(text, category, file, line, module, registry={})


def note_once(text: str, category: type[Warning]) -> None:
    """Warn as Python does by default: the same text from the same line once."""
    if _tallies:
        _tallies[-1].setdefault(text, (1, Finding(text)))
        return
    file, line, module = _caller()
    warnings.warn_explicit(text, category, file, line, module, registry=_once)


_once: dict[str | tuple[str, type[Warning], int], int] = {}


@atexit.register
def _closing_counts() -> None:
    for place, count in _heard.items():
        if left := count - _spoken.get(place, 0):
            kind, file, line = place
            print(
                f"{file}:{line}: {kind}: {count:,} times in all, {left:,} since the last one told",
                file=sys.stderr,
            )


def _caller() -> tuple[str, int, str]:
    """File, line and module of the innermost frame outside this package and torch."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_OWN):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno, frame.f_globals.get("__name__", "<unknown>")


@dataclass(frozen=True)
class Reporter:
    """Tells what a certificate has found.

    Attributes:
        message: what comes before a reason.
        subject: what may have kinks.
        derivative: what is then right inside a smooth piece.
    """

    message: str
    subject: str
    derivative: str

    def __call__(
        self,
        policy: OnFailure,
        reasons: Sequence[Finding],
        kinks: Sequence[str],
        failed: int = 0,
        remarks: Sequence[Finding] = (),
    ) -> None:
        """Warn of each reason, unless the policy takes care of it; and of the kinks.

        Args:
            policy: what is done about failed examples.
            reasons: why they failed.
            kinks: the operations with kinks.
            failed: how many examples failed; 0 where there is only one.
            remarks: what is told under every policy but ``silent``, and is no failure.

        Raises:
            ImplicitGradientError: under ``raise``, if there is a reason.
        """
        if policy is OnFailure.SILENT:
            return
        if reasons and policy is OnFailure.RAISE:
            kinds = "; ".join(reason.kind for reason in reasons)
            count = f" ({failed} examples)" if failed else ""
            raise ImplicitGradientError(f"{self.message}: {kinds}{count}")
        if told := [*(() if policy in HANDLED else reasons), *remarks]:
            say(self.message, told)
        if kinks:
            note_once(
                f"{self.subject} has operations with kinks ({', '.join(kinks)}): its "
                f"{self.derivative} is right inside a smooth piece, and says nothing of the others "
                "(the activations softplus and tanh have none)",
                SmoothnessNote,
            )
