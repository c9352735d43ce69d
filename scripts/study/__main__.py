"""Run a study and print its tables: ``python scripts/study NAME [--folder F] [--seeds S] ...``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(SCRIPTS.parent), str(SCRIPTS)]

from benchmarks.harness import write_csv

from savi.console import say
from savi.errors import InputError, unknown_option
from study.implicit import IMPLICIT
from study.kim2018 import KIM
from study.plan import Study
from study.references import nll
from study.runs import read_all, run_all
from study.seconds import prices
from study.tables import flat, lines, markdown, reference

STUDIES = {"implicit": IMPLICIT, "kim2018": KIM}


def names(listed: str) -> list[str]:
    """What commas part."""
    return listed.split(",")


def main() -> None:
    """Go on with what a folder holds of it, then print what is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help=", ".join(STUDIES))
    parser.add_argument("--folder", type=Path, help="runs/study/NAME unless it is given")
    parser.add_argument("--blocks", type=names, help="some of its tables, with commas")
    parser.add_argument("--methods", type=names, help="some of their lines, with commas")
    parser.add_argument("--seeds", type=int, help="at most so many")
    parser.add_argument("--processes", type=int, default=1, help="runs at the same time")
    parser.add_argument("--only-print", action="store_true", help="nothing is run")
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="for all its runs")
    asked = parser.parse_intermixed_args()
    try:
        study = chosen(asked.name, asked.blocks, asked.methods, asked.words)
    except InputError as error:
        say(str(error))
        sys.exit(2)
    folder = asked.folder or Path("runs/study") / asked.name
    folder.mkdir(parents=True, exist_ok=True)
    jobs = study.jobs(asked.seeds)
    if not asked.only_print:
        run_all(study, jobs, folder, asked.processes)
    tables = {}
    for name, block in study.blocks.items():
        runs = {
            method: read_all([job for job in jobs if job[:2] == (name, method)], folder)
            for method in block.methods
        }
        if not any(runs.values()):
            continue
        tables[name] = lines(block, runs, prices(study, name, folder))
        if tables[name]:
            seeds = range(max(line.seeds for line in tables[name]))
            for kind in reversed(block.references):
                values = [nll(study, name, kind, seed, folder) for seed in seeds]
                tables[name].insert(0, reference(kind, block, values))
            print(markdown(block, tables[name]), end="\n\n")
    if rows := flat(tables):
        write_csv(folder / "table.csv", rows)


def chosen(
    name: str, blocks: list[str] | None, methods: list[str] | None, words: list[str]
) -> Study:
    """A study, or a part of it.

    Raises:
        InputError: for a name that is unknown.
    """
    if name not in STUDIES:
        raise unknown_option("study", name, STUDIES)
    return STUDIES[name].part(blocks, methods, words)


if __name__ == "__main__":
    main()
