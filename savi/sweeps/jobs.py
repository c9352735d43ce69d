"""What the jobs of a sweep are called."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterable

from savi.settings import key_of

#: The longest name of a job's folder: it stands in longer paths, and in wandb's groups.
LONGEST = 100

#: A number as a sweeper such as Optuna draws it, with more digits than anyone reads.
_LONG_NUMBER = re.compile(r"(?<==)-?\d+\.\d{5,}(?:e[+-]?\d+)?(?=_|$)")

#: What needs no quotes in a shell, nor in an override such as ``checkpoint=PATH``.
_UNSAFE = re.compile(r"[^A-Za-z0-9.+_-]+")


def own_overrides(overrides: Iterable[str]) -> list[str]:
    """The overrides that make a job what it is: all but the choice of the sweep itself."""
    return [override for override in overrides if key_of(override) != "sweep"]


def job_folder(overrides: Iterable[str], constant: Iterable[str] = ()) -> str:
    """The folder of a job: its overrides in the order of their keys, ``inner.rho-0.1_seed-0``.

    It depends on the job alone, not on its number: a sweep that is started again, or with more
    values, finds its earlier jobs. Keys that are constant in the whole sweep are left out. Where a
    name had to be cut or cleaned, or a number in it rounded, a hash keeps it unique.
    """
    left_out = set(constant)
    named = [o for o in own_overrides(overrides) if key_of(o) not in left_out]
    words = "_".join(sorted(named, key=key_of)) or "defaults"
    rounded = _LONG_NUMBER.sub(lambda number: f"{float(number[0]):.3g}", words)
    text, clean = words.replace("=", "-"), _UNSAFE.sub("-", rounded.replace("=", "-"))
    if clean == text and len(text) <= LONGEST:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{clean[: LONGEST - 9].strip('-')}-{digest}"


def setting(overrides: Iterable[str], constant: Iterable[str] = ()) -> str:
    """The same without the seed: what all seeds of a setting share."""
    return job_folder(overrides, {*constant, "seed", "data.seed"})


def command(overrides: Iterable[str]) -> str:
    """The command line that runs a job alone."""
    return shlex.join(["savi-train", *own_overrides(overrides)])


def again(overrides: Iterable[str], folder: str) -> str:
    """The command line that goes on with the run in a folder."""
    kept = [word for word in own_overrides(overrides) if key_of(word) != "resume"]
    return shlex.join(["savi-train", *kept, _override("hydra.run.dir", folder), "resume=auto"])


def sweep_again(command: str, folder: str) -> str:
    """The command line that goes on with the sweep in a folder, by the one that has begun it."""
    kept = [word for word in shlex.split(command) if key_of(word) != "hydra.sweep.dir"]
    return shlex.join([*kept, _override("hydra.sweep.dir", folder)])


def _override(key: str, folder: str) -> str:
    return f"{key}={folder}" if not _UNSAFE.search(folder.replace("/", "")) else f"{key}='{folder}'"
