"""Which way a sweeper searches: as its metric says."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

from savi.errors import InputError
from savi.experiments.check_values import check_objective
from savi.report.metrics import direction
from savi.settings import key_of

#: The key of a sweeper such as Optuna's; others have none, and search no way.
KEY = "hydra.sweeper.direction"

WAYS = ("maximize", "minimize")


def follow_metric(hydra: DictConfig, metric: str) -> None:
    """Have the sweeper of this ``hydra`` node search the way that is better by the metric.

    A ``minimize`` that nobody has given on the command line is Optuna's default and gives way.

    Raises:
        InputError: for an unknown metric, for a direction against the metric, and for none where
            neither end of the metric is better.
    """
    check_objective(metric)
    if "direction" not in hydra.sweeper:
        return
    given = [_name(way) for way in _listed(hydra.sweeper.direction)]
    chosen = any(key_of(word) == KEY for word in hydra.overrides.hydra)
    if len(given) > 1:
        raise InputError(f"{KEY} has {len(given)} entries for one optimized_metric: leave it out")
    if chosen and given and given[0] not in WAYS:
        raise InputError(f"{KEY} is '{given[0]}': set it to maximize or minimize")
    if not chosen and given != ["maximize"]:
        given = []
    right = direction(metric)
    if right is None and not given:
        raise InputError(
            f"neither end of optimized_metric '{metric}' is better: set {KEY} to maximize or "
            "minimize"
        )
    if right is not None and given and given != [right]:
        raise InputError(
            f"{KEY}={given[0]} searches for the worst {metric}, which is better "
            f"{'higher' if right == 'maximize' else 'lower'}: leave it out, or set it to {right}"
        )
    hydra.sweeper.direction = right or given[0]


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if OmegaConf.is_list(value) else [value]


def _name(way: Any) -> str:
    """A direction in a word, also one of the sweeper's own enumeration."""
    return str(getattr(way, "name", way)).lower()
