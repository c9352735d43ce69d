"""The two tables of the benchmark."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from benchmarks.safety.judge import Outcome
from benchmarks.safety.problem import CONTROL
from benchmarks.safety.systems import SYSTEMS, System
from benchmarks.table import benchmark_table

if TYPE_CHECKING:
    from benchmarks.safety.run import Result

STEPS = (
    "* answers another question, the derivative of the steps that were taken; it is judged by the "
    "derivative of the solution all the same"
)
LEGEND = (
    "right, of them (said) with a word about it; wrong and told, or wrong in SILENCE; n/a: not "
    "expressible; alarms: words about well-posed problems\n"
)
ILL_POSED = ("right", "(said)", "told", "SILENT", "n/a")
WELL_POSED = ("right", "alarms", "SILENT")


def by_system(results: Sequence[Result], systems: Mapping[str, System]) -> Table:
    """Outcomes over all ill-posed problems, and false alarms over the well-posed ones."""
    families = [r.family for r in results if r.system == results[0].system]
    controls = families.count(CONTROL)
    table = benchmark_table(
        f"{len(families) - controls} ill-posed inner problems (five columns of figures), "
        f"{controls} well-posed ones (three)",
        LEGEND + STEPS,
    )
    table.add_column("System", no_wrap=True)
    for heading in ILL_POSED + WELL_POSED:
        table.add_column(heading, justify="right")
    for name in systems:
        ours = [r for r in results if r.system == name]
        ill_posed = [r.verdict for r in ours if r.family != CONTROL]
        well_posed = [r.verdict for r in ours if r.family == CONTROL]
        ill, well = (Counter(v.outcome for v in part) for part in (ill_posed, well_posed))
        table.add_row(
            _marked(name),
            str(ill[Outcome.RIGHT]),
            str(sum(v.outcome is Outcome.RIGHT and bool(v.word) for v in ill_posed)),
            str(ill[Outcome.TOLD]),
            str(ill[Outcome.SILENT]),
            str(ill[Outcome.NOT_EXPRESSIBLE]),
            str(well[Outcome.RIGHT]),
            str(sum(bool(v.word) for v in well_posed)),
            str(well[Outcome.SILENT]),
        )
    return table


def by_family(results: Sequence[Result]) -> Table:
    """Wrong in silence, by family and system: ``silent / problems``."""
    families = list(dict.fromkeys(r.family for r in results))
    table = benchmark_table("Wrong in silence, by family (– not expressible)", STEPS)
    table.add_column("System", no_wrap=True)
    for family in families:
        table.add_column(family.replace("_", " "), justify="right")
    for name in dict.fromkeys(r.system for r in results):
        cells = []
        for family in families:
            outcomes = Counter(
                r.verdict.outcome for r in results if (r.system, r.family) == (name, family)
            )
            asked = outcomes.total() - outcomes[Outcome.NOT_EXPRESSIBLE]
            cells.append(f"{outcomes[Outcome.SILENT]}/{asked}" if asked else "–")
        table.add_row(_marked(name), *cells)
    return table


def _marked(name: str) -> Text:
    return Text(name.replace("_", " ") + "*" * (SYSTEMS[name].asks == "steps"))
