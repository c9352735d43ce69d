"""The benchmark ``safety``: does a library say so when its gradient is wrong?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TypeVar

import torch
from rich.table import Table

from benchmarks.harness import Config, SharedConfig, benchmark, check_not_empty, write_csv
from benchmarks.progress import Progress
from benchmarks.safety import (
    degenerate_families,
    detached_families,
    head_calls,
    hypergradient_calls,
    layer_calls,
    qp_calls,
    rough_families,
    smooth_families,
    step_calls,
    surrounding_calls,
)
from benchmarks.safety.call import CALLS
from benchmarks.safety.judge import judge, judge_call
from benchmarks.safety.problem import CONTROL, FAMILIES
from benchmarks.safety.systems import SYSTEMS, System
from benchmarks.safety.tables import CallResult, Result, by_call, by_family, by_system
from benchmarks.systems import chosen, tell_left_out
from savi.settings import setting

__all__ = [
    "degenerate_families", "detached_families", "head_calls", "hypergradient_calls",
    "layer_calls", "qp_calls",
    "rough_families", "smooth_families", "step_calls", "surrounding_calls",
]  # fmt: skip

T = TypeVar("T")


@dataclass
class SafetyConfig(SharedConfig):
    """Which problems go to which systems, and which other calls are made; None means all."""

    tolerance: float = setting(1e-2, above=0)  # the relative error within which an answer is right
    families: list[str] | None = None  # by name, with ``per_family`` problems of each
    systems: list[str] | None = None  # by name
    per_family: int | None = setting(None, at_least=1)
    calls: list[str] | None = None  # families of other calls of this library; [] for none


@benchmark("safety", SafetyConfig)
def run_safety(config: Config, folder: Path) -> list[Table]:
    """Count, for every system and family, the answers that are wrong in silence.

    Writes ``safety.csv``, a line for each system and problem, and ``safety_calls.csv`` for the
    calls that only this library has. Returns the counts by system, the silent wrong answers by
    family, and the counts of the other calls.
    """
    check_not_empty(
        config, "families", "systems", advice="name at least one, or set it to null for all"
    )
    control_last = sorted(FAMILIES, key=lambda name: (name == CONTROL, name))
    builders = {name: FAMILIES[name] for name in config["families"] or control_last}
    calls = {name: CALLS[name] for name in (CALLS if config["calls"] is None else config["calls"])}
    systems = chosen_systems(config["systems"])
    with Progress(len(builders) * (1 + len(systems)) + len(calls)) as progress:
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
        asked = []
        for family, build_calls in calls.items():
            for call in spread(build_calls(config["seed"]), config["per_family"]):
                asked.append(CallResult(family, call, judge_call(call, config["tolerance"])))
            progress.advance("other calls")
    write_csv(folder / "safety.csv", [result.row() for result in results])
    if asked:
        write_csv(folder / "safety_calls.csv", [result.row() for result in asked])
    tables = [by_system(results, systems), by_family(results)]
    return [*tables, by_call(asked)] if asked else tables


def chosen_systems(names: Sequence[str] | None) -> dict[str, System]:
    """The systems to test; those of packages that are not installed are named and left out."""
    found, absent = chosen(SYSTEMS, names)
    packages = {package for name in absent for package in SYSTEMS[name].packages}
    tell_left_out(sorted(packages))
    for package in {package for name in found for package in SYSTEMS[name].packages}:
        # What a package says when it is imported is no word about a problem.
        import_module(package)
    return {name: SYSTEMS[name]() for name in found}


def spread(problems: list[T], count: int | None) -> list[T]:
    """``count`` of the problems, evenly over the family, so that all its kinds have a turn."""
    if count is None or count >= len(problems):
        return problems
    places = torch.linspace(0, len(problems) - 1, count).round().long().tolist()
    return [problems[place] for place in places]
