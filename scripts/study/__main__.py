"""Run a study and print its tables: ``python scripts/study NAME [--folder F] [--seeds S] ...``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(SCRIPTS.parent), str(SCRIPTS)]

from benchmarks.race import RaceConfig
from benchmarks.race.figure import race_figure
from benchmarks.race.report import race_table

from savi.console import print_table, say
from savi.errors import InputError, unknown_option
from savi.report.figures.style import save
from study.implicit import IMPLICIT
from study.kim2018 import KIM
from study.pictures import block_figure
from study.plan import Job, Study
from study.races import Rows, found_rows, kept_rows, pairs, run_races, save_rows
from study.reached import reached
from study.references import nll
from study.runs import read_all, run_all
from study.seconds import prices
from study.tables import duels, lines, markdown
from study.values import Value, read_values, reference_values, run_values, save_values

STUDIES = {"implicit": IMPLICIT, "kim2018": KIM}


def names(listed: str) -> list[str]:
    """What commas part."""
    return listed.split(",")


def main() -> None:
    """Go on with what a folder holds of it, then show what is there; or show what was kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help=", ".join(STUDIES))
    parser.add_argument("--folder", type=Path, help="runs/study/NAME unless it is given")
    parser.add_argument("--blocks", type=names, help="some of its tables, with commas")
    parser.add_argument("--methods", type=names, help="some of their lines, with commas")
    parser.add_argument("--seeds", type=int, help="at most so many")
    parser.add_argument("--processes", type=int, default=1, help="runs at the same time")
    parser.add_argument("--only-print", action="store_true", help="nothing is run")
    parser.add_argument("--kept", type=Path, help="show the figures that were kept in this folder")
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="for all its runs")
    asked = parser.parse_intermixed_args()
    try:
        study = chosen(asked.name, asked.blocks, asked.methods, asked.words)
        if asked.kept:
            values = read_values(asked.kept / f"{asked.name}.csv")
            show(study, values, kept_rows(study.pictures, asked.kept), asked.kept / asked.name)
            return
    except InputError as error:
        say(str(error))
        sys.exit(2)
    folder = asked.folder or Path("runs/study") / asked.name
    folder.mkdir(parents=True, exist_ok=True)
    jobs = study.jobs(asked.seeds)
    if not asked.only_print:
        run_all(study, jobs, folder, asked.processes)
        run_races(study, folder, asked.processes, asked.seeds)
    values = found(study, jobs, folder)
    # A picture has all its races, of which this may be a part.
    rows = found_rows(STUDIES[asked.name].races, study.pictures, folder)
    save_values(folder / f"{asked.name}.csv", values, study.blocks)
    save_rows(folder, rows)
    show(study, values, rows, folder / asked.name)


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


def found(study: Study, jobs: Sequence[Job], folder: Path) -> list[Value]:
    """What the runs of a folder say."""
    values: list[Value] = []
    for name, block in study.blocks.items():
        runs = {
            method: read_all([job for job in jobs if job[:2] == (name, method)], folder)
            for method in block.methods
        }
        if not any(run.state == "finished" for own in runs.values() for run in own.values()):
            continue
        own = run_values(name, block, runs, prices(study, name, folder))
        seeds = range(1 + max(value.seed or 0 for value in own))
        for kind in block.references:
            by_seed = [nll(study, name, kind, seed, folder) for seed in seeds]
            values += reference_values(name, block, kind, by_seed)
        values += own
    return values


def show(study: Study, values: Sequence[Value], rows: Rows, stem: Path) -> None:
    """Print the tables, and draw the pictures into files whose names begin with the stem."""
    for name, block in study.blocks.items():
        own = [value for value in values if value.block == name]
        if table := lines(block, own):
            print(markdown(block, table), end="\n\n")
            if pairwise := duels(block, own):
                print(pairwise, end="\n\n")
            if len(table) > 1:
                save(block_figure(block, table), f"{stem}_{name}.png")
    for picture, some in rows.items():
        for size in sorted({row.size for row in some}):
            print_table(race_table(some, size, RaceConfig.samples), width=120)
            print(reached(some, size), pairs(some, size), sep="\n\n", end="\n\n")
        if some:
            save(race_figure(some), f"{stem}_{picture}.png")


if __name__ == "__main__":
    main()
