"""Which runs are the same but for the seed, what sets others apart, what seeds say together."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import stdtrit

from savi.config.schema import defaults
from savi.report.runs import Run
from savi.settings import key_of

NOT_SETTINGS = ("seed", "data.seed", "logger")
"""Config keys and groups that make no run a different experiment."""

ABSENT = "—"
"""What stands for a key that a run's config does not have, or leaves empty."""


@dataclass(frozen=True)
class Setting:
    """Runs that differ in nothing but the seed, with their values of the keys in which others do.

    The ``label`` names the keys that were swept, with their values.
    """

    label: str
    values: Mapping[str, Any]
    runs: tuple[Run, ...]

    def figures(self, metric: str) -> list[float]:
        """A final figure for every seed that has it; a seed that was repeated counts once."""
        by_seed: dict[Hashable, list[float]] = {}
        for number, run in enumerate(self.runs):
            if metric in run.metrics:
                # Runs without a config tell no seed.
                seeds = [run.options.get(key) for key in ("seed", "data.seed")]
                seed = _hashable(seeds if "seed" in run.options else ["run", number])
                by_seed.setdefault(seed, []).append(run.metrics[metric])
        return [fmean(values) for values in by_seed.values()]


def differing(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys of flat configs that are not the same in all, seeds and logging aside."""
    keys = list(dict.fromkeys(key for config in configs for key in config))
    return [
        key
        for key in keys
        if not any(key == name or key.startswith(f"{name}.") for name in NOT_SETTINGS)
        and len({_hashable(config.get(key)) for config in configs}) > 1
    ]


def swept(configs: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[str]:
    """The differing keys without those that follow from a named choice such as the experiment.

    A key is left out if its value is a function of one kept key whose values are names. What
    remains tells the same settings apart.
    """
    kept: list[str] = []
    for key in keys:
        named = [name for name in kept if all(isinstance(c.get(name), str) for c in configs)]
        if not any(_follows(configs, key, name) for name in named):
            kept.append(key)
    return kept


@dataclass(frozen=True)
class Comparison:
    """Runs grouped by what sets them apart, in order of their first run.

    Of the keys ``differing`` between runs, those ``swept`` tell the settings apart.
    """

    settings: tuple[Setting, ...]
    differing: tuple[str, ...]
    swept: tuple[str, ...]

    def setting_of(self, run: Run) -> int | None:
        """The number of a run's setting; None for a run that was not compared."""
        for number, setting in enumerate(self.settings):
            if any(member is run for member in setting.runs):
                return number
        return None


def side_by_side(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The config of each run by dotted keys, empty for one without.

    A key of the schema that only other runs have is younger than the run's version. It had its
    default then: what it is in a run whose command does not set it.
    """
    meant: dict[str, Any] = {}
    for run in reversed(runs):
        given = {key_of(word) for word in run.words}
        meant |= {key: value for key, value in run.options.items() if key not in given}
    present = {key for run in runs for key in run.options}
    known = {key: meant.get(key, value) for key, value in defaults().items() if key in present}
    return [_completed(run.options, known) if run.config else {} for run in runs]


def _completed(options: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    return {**options, **{key: value for key, value in known.items() if key not in options}}


def compare(runs: Sequence[Run]) -> Comparison:
    """Group runs into settings; runs without a config are a group of their own."""
    configs = side_by_side(runs)
    known = [config for config in configs if config]
    keys = differing(known)
    chosen = swept(known, keys)
    groups: dict[Hashable, list[int]] = {}
    for number, config in enumerate(configs):
        group = tuple(_hashable(config.get(key)) for key in chosen) if config else None
        groups.setdefault(group, []).append(number)
    found = []
    for members in groups.values():
        config = configs[members[0]]
        label = setting_label(config, chosen) if config else "no config"
        values = {key: config.get(key) for key in keys} if config else {}
        found.append(Setting(label, values, tuple(runs[number] for number in members)))
    return Comparison(tuple(found), tuple(keys), tuple(chosen))


def setting_label(config: Mapping[str, Any], keys: Sequence[str]) -> str:
    """The swept values in words: the experiment's name alone, other keys by their last part."""
    lasts = [key.rpartition(".")[2] for key in keys]
    words = [
        show(config.get(key))
        if key == "experiment"
        else f"{last if lasts.count(last) == 1 else key}={show(config.get(key))}"
        for key, last in zip(keys, lasts, strict=True)
    ]
    return ", ".join(words) or show(config.get("experiment") or "one setting")


def show(value: object) -> str:
    """A config value as a person writes it."""
    if value is None:
        return ABSENT
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _follows(configs: Sequence[Mapping[str, Any]], key: str, name: str) -> bool:
    """Whether the value of ``key`` is a function of the value of ``name``."""
    pairs = {(_hashable(config.get(name)), _hashable(config.get(key))) for config in configs}
    return len(pairs) == len({first for first, _ in pairs})


def _hashable(value: object) -> Hashable:
    # True, 1 and 1.0 are equal in Python, 1 and 1.0 in a config as well.
    return (isinstance(value, bool), show(value))


@dataclass(frozen=True)
class Summary:
    """Mean of n finite values, nan if there is none, and of the interval around it half the width.

    There is no interval for fewer than two values. Those that are not finite are ``omitted``.
    """

    mean: float
    half_width: float | None
    n: int
    omitted: int


def summarise(values: Iterable[float]) -> Summary:
    """The mean, and its interval of 95 % by Student's t: mean ± t_{0.975, n−1} s / √n.

    s is the standard deviation with n − 1 in its denominator, and the values are taken for normal
    and independent. Values that are not finite are counted and left out.
    """
    everything = np.asarray(list(values), dtype=float)
    finite = everything[np.isfinite(everything)]
    n = finite.size
    with np.errstate(over="ignore"):
        mean = float(finite.mean()) if n else math.nan
    half_width = None
    if n > 1:
        # Squares of the largest numbers are infinite, and so is the interval.
        with np.errstate(over="ignore"):
            half_width = float(stdtrit(n - 1, 0.975) * finite.std(ddof=1) / math.sqrt(n))
    return Summary(mean, half_width, n, everything.size - n)


def pareto_front(
    costs: Float[np.ndarray, " N"], values: Float[np.ndarray, " N"]
) -> Bool[np.ndarray, " N"]:
    """Which points no other point dominates, where a low cost and a high value are better.

    A point is dominated by one that is no worse in both and better in one. Points that are not
    finite are on no front.
    """
    usable = np.isfinite(costs) & np.isfinite(values)
    cheaper = costs[:, None] <= costs
    better = values[:, None] >= values
    strict = (costs[:, None] < costs) | (values[:, None] > values)
    dominated = (cheaper & better & strict & usable[:, None]).any(axis=0)
    return usable & ~dominated
