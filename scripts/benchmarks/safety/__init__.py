"""The benchmark ``safety``: does a library say so when its gradient is wrong?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.table import Table

from benchmarks.harness import Config, SharedConfig, benchmark, check_not_empty, table, write_csv
from benchmarks.progress import Progress
from benchmarks.safety import degenerate_families, rough_families, smooth_families
from benchmarks.safety.judge import Outcome, Verdict, judge
from benchmarks.safety.problem import CONTROL, FAMILIES, Problem
from benchmarks.safety.systems import SYSTEMS, System
from benchmarks.systems import chosen, tell_left_out
from savi.settings import setting

__all__ = ["degenerate_families", "rough_families", "smooth_families"]

STEPS = (
    "* answers another question, the derivative of the steps that were taken; it is judged by the "
    "derivative of the solution all the same"
)
LEGEND = (
    "right, of them (said) with a word about it; wrong and told, or wrong in SILENCE; n/a: not "
    "expressible; alarms: words about well-posed problems\n"
)
HEADINGS = ("right", "(said)", "told", "SILENT", "n/a", "right", "alarms", "SILENT")


@dataclass
class SafetyConfig(SharedConfig):
    """Which problems go to which systems; None means all."""

    tolerance: float = setting(1e-2, above=0)  # the relative error within which an answer is right
    families: list[str] | None = None  # by name, with ``per_family`` problems of each
    systems: list[str] | None = None  # by name
    per_family: int | None = setting(None, at_least=1)


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


@benchmark("safety", SafetyConfig)
def run_safety(config: Config, folder: Path) -> list[Table]:
    """Count, for every system and family, the answers that are wrong in silence.

    Writes ``safety.csv``, a line for each system and problem. Returns the counts by system, and the
    silent wrong answers by family.
    """
    check_not_empty(
        config, "families", "systems", advice="name at least one, or set it to null for all"
    )
    control_last = sorted(FAMILIES, key=lambda name: (name == CONTROL, name))
    builders = {name: FAMILIES[name] for name in config["families"] or control_last}
    systems = chosen_systems(config["systems"])
    with Progress(len(builders) * (1 + len(systems))) as progress:
        problems = {}
        for family, build in builders.items():
            problems[family] = spread(build(config["seed"]), config["per_family"])
            progress.advance("right answers")
        progress.say(f"{sum(map(len, problems.values()))} problems and their right answers")
        results = []
        for name, system in systems.items():
            for family, members in problems.items():
                for problem in members:
                    verdict = judge(system, problem, config["tolerance"])
                    results.append(Result(name, family, problem.name, verdict))
                progress.advance(name)
            progress.say(name)
    write_csv(folder / "safety.csv", [result.row() for result in results])
    return [by_system(results, systems), by_family(results)]


def chosen_systems(names: Sequence[str] | None) -> dict[str, System]:
    """The systems to test; those of packages that are not installed are named and left out."""
    found, absent = chosen(SYSTEMS, names)
    packages = {package for name in absent for package in SYSTEMS[name].packages}
    tell_left_out(sorted(packages))
    for package in {package for name in found for package in SYSTEMS[name].packages}:
        # What a package says when it is imported is no word about a problem.
        import_module(package)
    return {name: SYSTEMS[name]() for name in found}


def spread(problems: list[Problem], count: int | None) -> list[Problem]:
    """``count`` of the problems, evenly over the family, so that all its kinds have a turn."""
    if count is None or count >= len(problems):
        return problems
    places = torch.linspace(0, len(problems) - 1, count).round().long().tolist()
    return [problems[place] for place in places]


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


def _marked(name: str) -> str:
    return name.replace("_", " ") + "*" * (SYSTEMS[name].asks == "steps")
