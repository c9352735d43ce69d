"""Try to break savi: ``python scripts/soak.py [NAME ...] [--trials N] [--seed S] [--folder F]``."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
import tempfile
import time
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent
sys.path[:0] = [str(SCRIPTS.parent), str(SCRIPTS)]

import soaks
from rich.table import Table
from soaks import SOAKS, known

from savi.console import print_table, say
from savi.errors import InputError

for module in pkgutil.iter_modules(soaks.__path__):
    importlib.import_module(f"soaks.{module.name}")


def main() -> None:
    """Run the named soaks, or all; exit 1 if any found a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(sorted(SOAKS)))
    parser.add_argument("--trials", type=int, help="of each; as many as its figure asks for")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where the runs go, and are kept")
    asked = parser.parse_args()
    try:
        chosen = {name: known(name) for name in asked.names or sorted(SOAKS)}
    except InputError as error:
        say(str(error))
        sys.exit(2)
    table = Table("soak", "what is asked", "tried", "faults", "minutes", title="soak")
    faults: list[str] = []
    for name, entry in chosen.items():
        begun = time.monotonic()
        with tempfile.TemporaryDirectory() as passing:
            folder = (asked.folder or Path(passing)) / name
            folder.mkdir(parents=True, exist_ok=True)
            tally = entry.run(asked.trials or entry.trials, asked.seed, folder)
        minutes = (time.monotonic() - begun) / 60
        faults += [f"{name}: {fault}" for fault in tally.faults]
        counts = f"{tally.tried:,}", f"{len(tally.faults):,}", f"{minutes:.1f}"
        table.add_row(name, entry.claim, *counts)
    for fault in faults:
        print(fault)
    print_table(table, width=120)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
