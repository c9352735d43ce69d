"""Bits that flip in a checkpoint: none may be read as if nothing had happened."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from savi.errors import InputError
from savi.experiments.checkpoint import read_checkpoint
from savi.experiments.reload import load
from soaks import Tally, soak
from soaks.programs import KINDS, RUNS, Program, differences, finished

#: Every so many trials a run goes on from a damaged checkpoint.
CONTINUED = 30

#: The run whose checkpoints they are.
RUN = "savi_ift"


@soak("flips", "no checkpoint with a flipped bit is accepted", trials=300)
def flips(trials: int, seed: int, folder: Path) -> Tally:
    """Flip a random bit of a checkpoint of a run or of replicas, and read it."""
    chance, tally = random.Random(seed), Tally()
    for name in (RUN, "replicas"):
        finished(KINDS[name].arguments, folder / name)
    run = folder / RUN / RUNS
    joint = folder / "replicas" / RUNS
    files = sorted([*run.glob("checkpoints/*.ckpt"), *joint.glob("replicas*.ckpt")])
    for trial in range(trials):
        source = chance.choice(files)
        damaged = folder / f"damaged {source.name}"
        place = _flip(source, damaged, chance)
        what = f"trial {trial}, {source.name} with bit {place % 8} of byte {place // 8} flipped"
        faults = _accepted(damaged)
        if trial % CONTINUED == 0 and source.parent.parent == run:
            faults += _continued(source, damaged, folder / f"trial {trial}", run)
        tally.add(*(f"{what}: {fault}" for fault in faults))
    return tally


def _flip(source: Path, target: Path, chance: random.Random) -> int:
    content = bytearray(source.read_bytes())
    place = chance.randrange(8 * len(content))
    content[place // 8] ^= 1 << place % 8
    target.write_bytes(content)
    return place


def _accepted(path: Path) -> list[str]:
    faults = []
    for read in (read_checkpoint, load):
        try:
            read(path)
        except InputError:
            continue
        except Exception as error:
            faults.append(f"{read.__name__} fails without a sentence: {error!r}")
        else:
            faults.append(f"{read.__name__} accepts it")
    return faults


def _continued(source: Path, damaged: Path, folder: Path, whole: Path) -> list[str]:
    """A run with this checkpoint among its own comes to the same end."""
    shutil.copytree(whole, folder / RUNS)
    shutil.copy(damaged, folder / RUNS / "checkpoints" / source.name)
    program = Program(KINDS[RUN].arguments, folder)
    if code := program.wait():
        return [f"exit code {code}: {program.output()[-1000:]}"]
    return differences(folder / RUNS, whole)
