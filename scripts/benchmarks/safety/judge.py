"""One system on one problem: is the answer right, and if not, did anyone say so?"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeVar

import torch
from torch import Tensor

from benchmarks.safety.call import Call
from benchmarks.safety.problem import Problem, stationarity
from benchmarks.safety.systems import NotExpressible, System
from savi.implicit.reporter import SmoothnessNote

T = TypeVar("T")


class Outcome(Enum):
    """What became of a problem."""

    RIGHT = "right"
    TOLD = "wrong, and said so"
    SILENT = "wrong in silence"
    NOT_EXPRESSIBLE = "not expressible"


@dataclass(frozen=True)
class Verdict:
    """The outcome, and what it rests on."""

    outcome: Outcome  # see :class:`Outcome`
    #: what the system said: an exception, a warning, output, a log record, or that its answer is
    #: not finite; empty if it said nothing.
    word: str = ""
    #: ‖g − answer‖ / ‖answer‖; infinite if there is no right answer, or if it is 0 and g is not;
    #: NaN if g is not finite or missing.
    error: float = float("nan")
    #: ‖∇J‖ where the solve ended, relative to the start; NaN if unknown.
    stationarity: float = float("nan")


def judge(system: System, problem: Problem, tolerance: float) -> Verdict:
    """Put ``problem`` to ``system`` and compare.

    An answer is right within the relative error ``tolerance``, whatever is said about it. A
    finite wrong one is wrong in silence if no exception, no warning, no output and no log record
    came with it. (Warnings that a function is deprecated, or of the kinds in ``system.notes``, are
    no word about the answer.)
    """
    heard = _heard(lambda: system.answer(problem), system.notes)
    if isinstance(heard, Verdict):
        return heard
    answer, word = heard
    verdict = _verdict(
        [answer.gradient], answer, word, None if problem.answer is None else [problem.answer],
        tolerance,
    )  # fmt: skip
    return replace(verdict, stationarity=stationarity(problem, answer.value))


def judge_call(call: Call, tolerance: float) -> Verdict:
    """Make a call of this library and compare, by the same rules; the worst part counts."""
    heard = _heard(call.ask, (SmoothnessNote,))
    if isinstance(heard, Verdict):
        return heard
    parts, word = heard
    return _verdict(parts, parts, word, call.answer, tolerance)


def _heard(ask: Callable[[], T], notes: tuple[type[Warning], ...]) -> tuple[T, str] | Verdict:
    """What was answered and said; or the verdict, where an exception was all."""
    listener = _Listener(notes)
    with listener:
        try:
            answer = ask()
        except NotExpressible:
            return Verdict(Outcome.NOT_EXPRESSIBLE)
        except Exception as exception:
            return Verdict(Outcome.TOLD, f"{type(exception).__name__}: {_line(str(exception))}")
    return answer, listener.word


def _verdict(
    parts: Sequence[Tensor], shown: Sequence[Tensor], word: str,
    answers: Sequence[Tensor] | None, tolerance: float,
) -> Verdict:  # fmt: skip
    """Compare ``parts``, the derivatives among all that is shown to the user."""
    if not all(bool(torch.isfinite(tensor).all()) for tensor in shown):
        return Verdict(Outcome.TOLD, word or "the answer is not finite")
    known = [None] * len(parts) if answers is None else answers
    error = max(relative_error(part, right) for part, right in zip(parts, known, strict=True))
    wrong = Outcome.TOLD if word else Outcome.SILENT
    return Verdict(Outcome.RIGHT if error <= tolerance else wrong, word, error)


def relative_error(gradient: Tensor, answer: Tensor | None) -> float:
    """‖g − answer‖ / ‖answer‖ in float64."""
    if answer is None:
        return float("inf")
    if gradient.shape != answer.shape:
        raise ValueError(f"an answer of shape {tuple(gradient.shape)}, not {tuple(answer.shape)}")
    difference = float((gradient.detach().double() - answer).norm())
    if difference == 0.0:
        return 0.0
    size = float(answer.norm())
    return difference / size if size > 0.0 else float("inf")


_DEPRECATION: tuple[type[Warning], ...] = (
    DeprecationWarning,
    PendingDeprecationWarning,
    FutureWarning,
)


class _Listener(contextlib.ExitStack):
    """Collects warnings, standard output, standard error and log records while it is entered."""

    def __init__(self, ignored: tuple[type[Warning], ...]) -> None:
        super().__init__()
        self._ignored = ignored + _DEPRECATION

    def __enter__(self) -> _Listener:
        super().__enter__()
        self._warnings = self.enter_context(warnings.catch_warnings(record=True))
        warnings.simplefilter("default")
        self._text = io.StringIO()
        self.enter_context(contextlib.redirect_stdout(self._text))
        self.enter_context(contextlib.redirect_stderr(self._text))
        handler = logging.StreamHandler(self._text)
        root = logging.getLogger()
        root.addHandler(handler)
        self.callback(root.removeHandler, handler)
        return self

    @property
    def word(self) -> str:
        """All that was said, in a line."""
        said = [
            f"{warning.category.__name__}: {_line(str(warning.message))}"
            for warning in self._warnings or ()
            if not issubclass(warning.category, self._ignored)
        ]
        return "; ".join(dict.fromkeys([*said, _line(self._text.getvalue())])).strip("; ")


def _line(text: str) -> str:
    return " ".join(text.split())
