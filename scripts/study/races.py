"""The races of a study: the benchmark ``race``, and what is kept of several of them."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.harness import write_csv
from benchmarks.race.report import curves, lead
from benchmarks.race.run import Row

from savi.runs.whole import whole
from study.plan import Race, Study
from study.runs import SCRIPTS
from study.tables import cell, table

#: By picture.
Rows = Mapping[str, Sequence[Row]]


def run_races(study: Study, folder: Path, processes: int, seeds: int | None) -> None:
    """One after another, each so many runs at a time; what there is of them is gone on with."""
    for name, race in study.races.items():
        count = race.seeds if seeds is None else min(seeds, race.seeds)
        own = [f"seeds={count}", f"processes={processes}", *study.last]
        subprocess.run(race_command(race, own, folder / name), check=False)


def race_command(race: Race, own: Sequence[str], folder: Path) -> list[str]:
    """What runs one, with words of its own."""
    return [
        sys.executable, str(SCRIPTS / "benchmark.py"), "race", *race.words, "threads=1", *own,
        f"hydra.run.dir={folder}",
    ]  # fmt: skip


def found_rows(races: Mapping[str, Race], pictures: Iterable[str], folder: Path) -> Rows:
    """The verdicts of all races in a folder that are in these pictures."""
    return {
        picture: _read(
            folder / name / "race.csv" for name, race in races.items() if race.picture == picture
        )
        for picture in pictures
    }


def kept_rows(pictures: Iterable[str], folder: Path) -> Rows:
    """Those of :func:`save_rows`."""
    return {picture: _read([folder / f"{picture}.csv"]) for picture in pictures}


def _read(files: Iterable[Path]) -> list[Row]:
    rows = []
    for path in files:
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                rows += [_row(line) for line in csv.DictReader(file)]
    return rows


def _row(line: dict[str, str]) -> Row:
    size, seed, steps = (int(line[key]) for key in ("size", "seed", "steps"))
    numbers = {
        # Races of before units were counted have none.
        key: float(line.get(key, "nan"))
        for key in Row._fields
        if key not in ("size", "method", "seed", "steps", "diverged")
    }
    return Row(size, line["method"], seed, steps=steps, diverged=line["diverged"] == "True",
               **numbers)  # fmt: skip


def save_rows(folder: Path, rows: Rows) -> None:
    """As CSV, a file for each picture and a line for each verdict."""
    for picture, some in rows.items():
        if some:
            with whole(folder / f"{picture}.csv") as part:
                write_csv(part, [row._asdict() for row in some])


def pairs(rows: Sequence[Row], size: int) -> str:
    """How far each ends above each other, seed for seed; as Markdown."""
    here = [row for row in rows if row.size == size]
    found = curves(here, size)
    ends = {name: max(next(iter(by_seed.values()))) for name, by_seed in found.items()}
    body = {
        f"`{name}`": [
            "—" if name == rival else cell(lead(found, name, rival)[end], 1) for rival in found
        ]
        for name, end in ends.items()
    }
    title = f"**At the end, {size:,} images**: the line's nats less the column's"
    return table(title, list(found), body)
