"""The one exception that says: the input is wrong, and here is what to set instead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

#: Of a sentence with more characters, because a word of the user's has as many, the middle is cut.
LONGEST = 2_000


def readable(sentence: str) -> str:
    """The sentence, of at most about so many characters."""
    if len(sentence) <= LONGEST:
        return sentence
    return f"{sentence[: LONGEST // 2]} … {sentence[-LONGEST // 2 :]}"


class InputError(ValueError):
    """A user's mistake, told in one sentence: what is wrong, where, and what to set instead.

    The command line prints the sentence and exits with code 2; in a notebook it is an ordinary
    ``ValueError``. It is raised before any work is done.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(readable(sentence))


class SettingError(InputError):
    """A setting that cannot be, by the name that the caller gave it.

    Whoever is called knows an argument (``rtol``), a config its key (``gradient.rtol``): see
    :func:`within`.

    Attributes:
        name: the setting.
        problem: what is wrong with it, and what to set instead; follows the name.
        before: what precedes the name.
    """

    def __init__(self, name: str, problem: str, before: str = "") -> None:
        super().__init__(f"{before}{name} {problem}")
        self.name, self.problem, self.before = name, problem, before


class CombinationError(InputError):
    """Choices that exclude each other, told to who made them by a call.

    Attributes:
        in_config: the same sentence for who made them in a config; see :func:`within`.
    """

    def __init__(self, sentence: str, *, in_config: str) -> None:
        super().__init__(sentence)
        self.in_config = in_config


class ImplicitGradientError(RuntimeError):
    """A condition of the implicit function theorem is broken, under ``on_failure: raise``."""


@contextmanager
def within(group: str) -> Iterator[None]:
    """Tell what is refused inside in the words of a config: ``rtol`` as ``group.rtol``."""
    try:
        yield
    except SettingError as error:
        raise SettingError(f"{group}.{error.name}", error.problem, error.before) from error
    except CombinationError as error:
        raise InputError(error.in_config) from error


class Conflict(NamedTuple):
    """A choice that another one excludes.

    Attributes:
        made: whether it was made.
        choice: what a config calls it.
        instead: what to set instead of it.
        reason: why it is excluded, if that needs to be said.
    """

    made: bool
    choice: str
    instead: str
    reason: str = ""


def refuse(owner: str, conflicts: Iterable[Conflict], otherwise: str = "") -> None:
    """Refuse the first conflict that there is.

    Args:
        owner: the choice that excludes the others.
        conflicts: the others.
        otherwise: what to set instead of the owner.

    Raises:
        InputError: with the two choices, the reason, and what to set instead.
    """
    for made, choice, instead, reason in conflicts:
        if made:
            why, rather = reason and f", {reason}", otherwise and f", or {otherwise}"
            raise InputError(f"{owner} with {choice}{why}: set {instead}{rather}")


def require_at_least(name: str, value: float, least: float) -> None:
    """Refuse a value below ``least``, or one that is no number.

    Raises:
        SettingError: with the name, the value and the least.
    """
    if not value >= least:
        raise SettingError(name, f"is {value}: set it to {least} or more")


def unknown_option(kind: str, name: object, known: Iterable[str]) -> InputError:
    """The error for a name that is not among the known ones, which it lists."""
    shown = str(name)
    if not shown.isprintable():
        shown = ascii(shown)[1:-1]
    return InputError(f"unknown {kind} '{shown}': choose one of {', '.join(sorted(known))}")
