"""The lines of the benchmark's files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.inner.candidates import Trial
from benchmarks.inner.curves import Moment
from benchmarks.inner.race import Finish, Robustness
from benchmarks.inner.training import ENCODER_LOSS, PLACES, PLAIN, Training, label

COLUMNS = (
    "part", "optimizer", "lr", "gamma", "K", "evaluations", "seconds", "objective", "stationarity",
    "stationarity_95", "solved",
)  # fmt: skip


def inner_rows(
    sweeps: Mapping[str, Sequence[Trial]],
    curves: Mapping[str, Sequence[Moment]],
    finishes: Mapping[str, Finish],
    robust: Mapping[str, Sequence[Robustness]],
) -> list[dict[str, Any]]:
    """Of ``inner.csv``; a cell is empty where a part does not measure its column.

    K is the number of steps, in the parts ``sweep``, ``race`` and ``gamma`` that after which enough
    examples are solved (empty where they never are, but the most that was allowed in ``race``).
    """
    lr = {name: trials[0].lr for name, trials in sweeps.items()}
    rows = [
        _row("sweep", name, t.lr, K=t.steps, stationarity_95=t.stationarity, solved=t.converged)
        for name, trials in sweeps.items()
        for t in trials
    ]
    rows += [
        _row(
            "curve",
            name,
            lr[name],
            K=moment.steps,
            evaluations=moment.evaluations,
            seconds=moment.seconds,
            objective=moment.objective,
            stationarity=moment.stationarity,
            stationarity_95=moment.most,
        )
        for name, moments in curves.items()
        for moment in moments
    ]
    rows += [
        _row(
            "race",
            name,
            lr[name],
            K=finish.steps,
            evaluations=finish.evaluations,
            seconds=finish.timing.median,
            objective=finish.objective,
            solved=finish.converged,
        )
        for name, finish in finishes.items()
    ]
    return rows + [
        _row("gamma", name, lr[name], gamma=p.factor, K=p.steps, solved=p.converged)
        for name, points in robust.items()
        for p in points
    ]


def _row(part: str, optimizer: str, lr: float | None, **values: Any) -> dict[str, Any]:
    """``gamma`` is the factor on γ."""
    given = {"part": part, "optimizer": optimizer, "lr": lr, "gamma": 1.0} | values
    return {column: given.get(column) for column in COLUMNS}


def training_rows(
    configurations: Sequence[Mapping[str, Any]], found: Mapping[str, Training]
) -> list[dict[str, Any]]:
    """Of ``inner_training.csv``: the plain VAE, and each configuration with its keys."""
    keys = (*PLACES, ENCODER_LOSS)
    by_label: dict[str, Mapping[str, Any]] = {PLAIN: {}}
    by_label |= {label(configuration): configuration for configuration in configurations}
    return [
        {key: by_label[name].get(key) for key in keys}
        | {
            "name": name,
            "steps": None if name == PLAIN else training.steps,
            "solved": None if name == PLAIN else training.solved,
            "seconds": training.timing.median,
            "ratio": training.timing.over(found[PLAIN].timing),
        }
        for name, training in found.items()
    ]
