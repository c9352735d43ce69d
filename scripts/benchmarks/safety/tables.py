"""What the safety benchmark writes and prints: a line for each answer, and their counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich.table import Table

from benchmarks.harness import table
from benchmarks.safety.call import Call
from benchmarks.safety.judge import Outcome, Verdict
from benchmarks.safety.problem import CONTROL
from benchmarks.safety.systems import SYSTEMS, System

STEPS = (
    "* answers another question, the derivative of the steps that were taken; it is judged by the "
    "derivative of the solution all the same"
)
LEGEND = (
    "right, of them (said) with a word about it; wrong and told, or wrong in SILENCE; n/a: not "
    "expressible; alarms: words about well-posed problems\n"
)
HEADINGS = ("right", "(said)", "told", "SILENT", "n/a", "right", "alarms", "SILENT")
CALL_HEADINGS = ("right", "(said)", "told", "SILENT", "right", "alarms", "SILENT")


class Result(NamedTuple):
    """One system on one problem."""

    system: str
    family: str
    problem: str
    verdict: Verdict

    def row(self) -> dict[str, Any]:
        """A line of ``safety.csv``."""
        first = {"system": self.system, "family": self.family, "problem": self.problem}
        verdict = vars(self.verdict)
        keys = ("error", "stationarity", "word")
        return first | {"outcome": self.verdict.outcome.value} | {k: verdict[k] for k in keys}


class CallResult(NamedTuple):
    """What became of one of the other calls."""

    family: str
    call: Call
    verdict: Verdict

    def row(self) -> dict[str, Any]:
        """A line of ``safety_calls.csv``."""
        first = {"family": self.family, "call": self.call.name, "well_posed": self.call.well_posed}
        outcome = self.verdict.outcome.value
        return first | {"outcome": outcome, "error": self.verdict.error, "word": self.verdict.word}


def by_system(results: Sequence[Result], systems: Mapping[str, System]) -> Table:
    """Outcomes over all ill-posed problems, and false alarms over the well-posed ones."""
    families = [r.family for r in results if r.system == results[0].system]
    controls = families.count(CONTROL)
    rows = []
    for name in systems:
        parts = [
            [r.verdict for r in results if r.system == name and (r.family == CONTROL) == control]
            for control in (False, True)
        ]
        ill, well = (Counter(v.outcome for v in part) for part in parts)
        said = sum(v.outcome is Outcome.RIGHT and bool(v.word) for v in parts[0])
        alarms = sum(bool(v.word) for v in parts[1])
        rows.append(
            [_marked(name), ill[Outcome.RIGHT], said, ill[Outcome.TOLD], ill[Outcome.SILENT],
             ill[Outcome.NOT_EXPRESSIBLE], well[Outcome.RIGHT], alarms, well[Outcome.SILENT]]
        )  # fmt: skip
    title = (
        f"{len(families) - controls} ill-posed inner problems (five columns of figures), "
        f"{controls} well-posed ones (three)"
    )
    return table(title, LEGEND + STEPS, rows, left=["System"], right=HEADINGS)


def by_family(results: Sequence[Result]) -> Table:
    """Wrong in silence, by family and system: ``silent / problems``."""
    families = list(dict.fromkeys(r.family for r in results))
    rows = []
    for name in dict.fromkeys(r.system for r in results):
        cells = []
        for family in families:
            outcomes = Counter(
                r.verdict.outcome for r in results if (r.system, r.family) == (name, family)
            )
            asked = outcomes.total() - outcomes[Outcome.NOT_EXPRESSIBLE]
            cells.append(f"{outcomes[Outcome.SILENT]}/{asked}" if asked else "–")
        rows.append([_marked(name), *cells])
    headings = [family.replace("_", " ") for family in families]
    title = "Wrong in silence, by family (– not expressible)"
    return table(title, STEPS, rows, left=["System"], right=headings, wrap=headings)


def by_call(results: Sequence[CallResult]) -> Table:
    """Outcomes of the other calls, by family; the last row is their sum."""
    families = dict.fromkeys(result.family for result in results)
    rows = [
        [name.replace("_", " "), *_counts([r for r in results if r.family == name])]
        for name in families
    ]
    rows.append(["all", *_counts(results)])
    hazards = sum(not result.call.well_posed for result in results)
    title = (
        f"Other calls of this library: {hazards} hazards (four columns of figures), "
        f"{len(results) - hazards} well-posed ones (three)"
    )
    return table(title, LEGEND.strip(), rows, left=["Family"], right=CALL_HEADINGS)


def _counts(results: Sequence[CallResult]) -> list[int]:
    parts = [[r.verdict for r in results if r.call.well_posed == well] for well in (False, True)]
    ill, well = (Counter(v.outcome for v in part) for part in parts)
    said = sum(v.outcome is Outcome.RIGHT and bool(v.word) for v in parts[0])
    alarms = sum(bool(v.word) for v in parts[1])
    return [
        ill[Outcome.RIGHT], said, ill[Outcome.TOLD], ill[Outcome.SILENT],
        well[Outcome.RIGHT], alarms, well[Outcome.SILENT],
    ]  # fmt: skip


def _marked(name: str) -> str:
    return name.replace("_", " ") + "*" * (SYSTEMS[name].asks == "steps")
