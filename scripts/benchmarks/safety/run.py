"""The benchmark ``safety``: every system on every problem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from benchmarks.files import write_csv
from benchmarks.progress import Progress
from benchmarks.registry import BENCHMARKS
from benchmarks.safety.judge import Verdict, judge
from benchmarks.safety.problem import CONTROL, FAMILIES, Problem
from benchmarks.safety.systems import SYSTEMS, System
from benchmarks.safety.tables import by_family, by_system
from savi.errors import InputError, require_at_least


@dataclass(frozen=True)
class Result:
    """One system on one problem."""

    system: str
    family: str
    problem: str
    verdict: Verdict

    def row(self) -> dict[str, Any]:
        """A line of ``safety.csv``."""
        return {
            "system": self.system,
            "family": self.family,
            "problem": self.problem,
            "outcome": self.verdict.outcome.value,
            "error": self.verdict.error,
            "stationarity": self.verdict.stationarity,
            "word": self.verdict.word,
        }


@BENCHMARKS.register("safety")
def run_safety(config: Mapping[str, Any], folder: Path) -> list[Table]:
    """Count, for every system and family, the answers that are wrong in silence.

    Writes ``safety.csv``, a line for each system and problem.

    Args:
        config: ``seed``; ``tolerance``, the relative error within which an answer is right;
            ``families`` and ``systems`` by name, or None for all; ``per_family``, how many problems
            of each family, or None for all; ``threads``.
        folder: where the file goes.

    Returns:
        The counts by system, and the silent wrong answers by family.

    Raises:
        InputError: for unknown names, values out of range, and a system that is not installed.
    """
    require_at_least("seed", config["seed"], 0)
    if not config["tolerance"] > 0:
        raise InputError(f"tolerance is {config['tolerance']}: set it above 0")
    if config["per_family"] is not None:
        require_at_least("per_family", config["per_family"], 1)
    for key in ("families", "systems"):
        if config[key] is not None and not config[key]:
            raise InputError(f"{key} is []: name at least one, or set it to null for all")
    control_last = sorted(FAMILIES, key=lambda name: name == CONTROL)
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
                results += [
                    Result(name, family, problem.name, judge(system, problem, config["tolerance"]))
                    for problem in members
                ]
                progress.advance(name)
            progress.say(name)
    write_csv(folder / "safety.csv", [result.row() for result in results])
    return [by_system(results, systems), by_family(results)]


def chosen_systems(names: Sequence[str] | None) -> dict[str, System]:
    """The systems to test; those of packages that are not installed are named and left out.

    Raises:
        InputError: for a name that is not known, or whose package is not installed.
    """
    remedy = "pip install 'savi-vae[bench]'"
    for name in names or ():
        if not SYSTEMS[name].is_installed():
            raise InputError(f"system '{name}' needs {SYSTEMS[name].package}: {remedy}")
    ours_first = sorted(SYSTEMS, key=lambda name: SYSTEMS[name].package != "savi")
    chosen = {name: SYSTEMS[name] for name in names or ours_first}
    absent = {system.package for system in chosen.values() if not system.is_installed()}
    if absent:
        print(f"not installed, left out: {', '.join(sorted(absent))} ({remedy})", flush=True)
    for package in {system.package for system in chosen.values()} - absent:
        # What a package says when it is imported is no word about a problem.
        import_module(package)
    return {name: system() for name, system in chosen.items() if system.package not in absent}


def spread(problems: list[Problem], count: int | None) -> list[Problem]:
    """``count`` of the problems, evenly over the family, so that all its kinds have a turn."""
    if count is None or count >= len(problems):
        return problems
    places = torch.linspace(0, len(problems) - 1, count).round().long().tolist()
    return [problems[place] for place in places]
