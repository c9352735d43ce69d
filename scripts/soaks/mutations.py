"""Inputs that nobody meant: words, checkpoints, arrays, idx files and run folders, changed."""

from __future__ import annotations

import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

from soaks import Tally, soak
from soaks.limited import SECONDS, Ended, ended
from soaks.trials import BENCHMARK, KINDS, make

#: What a sentence does not say: what Python says of its own objects.
INTERNAL = re.compile(
    "has no attribute|unexpected keyword|not subscriptable|positional argument|unhashable|"
    "object is not|object at 0x"
)


#: More memory than any of these inputs needs; a process that has imported everything has 0.6 GB.
LARGEST = 2 << 30


@soak("mutations", "no changed input ends in a traceback, a hang, or more than a sentence", 2_000)
def mutations(trials: int, seed: int, folder: Path) -> Tally:
    """Change inputs that are right, and look at how the programs end."""
    right = folder / "right"
    make(right)
    tally = Tally()

    def one(number: int) -> list[str]:
        place = folder / f"trial {number}"
        place.mkdir()
        chance = Random(f"{seed} {number}")
        kind = list(KINDS)[number % len(KINDS)]
        trial = KINDS[kind](chance, right, place)
        # A benchmark that is asked for more works for longer, without a word.
        seconds = 4 * SECONDS if trial.code == BENCHMARK else SECONDS
        found = faults(ended(trial.code, trial.arguments, place, seconds))
        if not found:
            # Files that are right are links.
            shutil.rmtree(place)
            shutil.rmtree(folder / f"trial {number} streams")
        return [f"trial {number}, {kind}, {trial.what}: {fault}" for fault in found]

    with ThreadPoolExecutor(int(os.environ.get("SAVI_SOAK_PROCESSES", "2"))) as pool:
        for found in pool.map(one, range(trials)):
            tally.add(*found)
            for fault in found:
                print(fault, flush=True)
    return tally


def faults(end: Ended) -> list[str]:
    """What is wrong with how a program ended."""
    out, errors = end.said
    lines = errors.splitlines()
    said = [line for line in lines if line.startswith("savi: ") and "savi: warning" not in line]
    if end.code is None:
        return [f"hangs; it said {out[-300:]!r} {errors[-300:]!r}"]
    if "Traceback" in out + errors:
        return [f"a traceback, exit code {end.code}: {errors[-700:]}"]
    found = []
    if end.code not in ((143, -15) if end.asked else (0, 1, 2)):
        found.append(f"exit code {end.code}{' after SIGTERM' * end.asked}: {errors[-300:]!r}")
    if end.asked and not out:
        found.append(f"does nothing for long; {errors[-300:]!r}")
    if len(said) != (end.code != 0) and not (end.asked and end.code == -15):
        found.append(f"exit code {end.code} and {len(said)} sentences: {errors[-700:]!r}")
    if odd := [n for n in lines if n and not n.startswith(("savi: ", "warning: "))]:
        found.append(f"exit code {end.code} and another line: {odd[:3]}")
    found += [f"not a sentence for a user: {line}" for line in said if INTERNAL.search(line)]
    found += [f"{len(line)} characters: {line[:300]}" for line in said if len(line) > 3_000]
    if end.memory > LARGEST:
        found.append(f"held {end.memory >> 20} MB of memory")
    return found
