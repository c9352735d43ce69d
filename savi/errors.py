"""The one exception that says: the input is wrong, and here is what to set instead."""

from collections.abc import Iterable


class InputError(ValueError):
    """A user's mistake, told in one sentence: what is wrong, where, and what to set instead.

    The command line prints the sentence and exits with code 2; in a notebook it is an ordinary
    ``ValueError``. It is raised before any work is done.
    """


def require_at_least(name: str, value: float, least: float) -> None:
    """Refuse a value below ``least``, or one that is no number.

    Raises:
        InputError: with the name, the value and the least.
    """
    if not value >= least:
        raise InputError(f"{name} is {value}: set it to {least} or more")


def unknown_option(kind: str, name: object, known: Iterable[str]) -> InputError:
    """The error for a name that is not among the known ones, which it lists."""
    return InputError(f"unknown {kind} '{name}': choose one of {', '.join(sorted(known))}")
