"""How the cost of an outer step grows with the batch and with the latent dimension."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from benchmarks.cost.measure import Cost
from benchmarks.cost.variants import (
    PAIRED,
    OuterStep,
    Variant,
    all_backends,
    all_optimizers,
    combined,
    stable_descent,
)
from benchmarks.target import Target
from benchmarks.trained import TrainedBatch, trained_batch

#: The most that a cost may take at the largest size, in units of what linear growth from the
#: smallest one would lead to.
MOST = 1.1

Costs = Mapping[Variant, Cost]


def by_batch(
    batch: TrainedBatch, config: Mapping[str, Any]
) -> dict[Variant, OuterStep[TrainedBatch]]:
    """What is measured against B.

    Args:
        batch: at least as many examples as the largest of ``batches``.
        config: see :func:`benchmarks.cost.run.run_cost`.
    """
    steps: dict[Variant, OuterStep[TrainedBatch]] = {}
    for size in config["batches"]:
        steps |= _paired("batch", batch.rows(size), config)
    return steps


def of_latent_dim(
    latent_dim: int, config: Mapping[str, Any], device: torch.device
) -> dict[Variant, OuterStep[TrainedBatch]]:
    """What is measured at one d, on a model of its own."""
    changes = {
        "latent_dim": latent_dim,
        "train_steps": config["growth_train_steps"],
        "checkpoint": None,
    }
    batch = trained_batch({**config, **changes}).to(device)
    return _paired("latent_dim", batch, config)


def _paired(
    part: str, batch: TrainedBatch, config: Mapping[str, Any]
) -> dict[Variant, OuterStep[TrainedBatch]]:
    backends, optimizers = all_backends(), all_optimizers(stable_descent(batch, config))
    return combined(
        part,
        batch,
        {name: backends[name] for name in PAIRED},
        {name: optimizers[name] for name in config["growth_optimizers"]},
        [config["growth_steps"]],
    )


def series(costs: Costs, part: str) -> dict[tuple[str, str], list[tuple[Variant, Cost]]]:
    """The variants of a part by backend and optimiser, without those that were refused."""
    found: dict[tuple[str, str], list[tuple[Variant, Cost]]] = {}
    for variant, cost in costs.items():
        if variant.part == part and cost.timing.refusal is None:
            found.setdefault((variant.backend, variant.optimizer), []).append((variant, cost))
    return found


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The p of cost = C size^p: least squares in their logarithms."""
    x, y = ([math.log(value) for value in values] for values in (sizes, costs))
    centre_x, centre_y = sum(x) / len(x), sum(y) / len(y)
    rise = sum((a - centre_x) * (b - centre_y) for a, b in zip(x, y, strict=True))
    return rise / sum((a - centre_x) ** 2 for a in x)


def linear(sizes: Sequence[float], costs: Sequence[float]) -> Target:
    """The cost at the largest size, which linear growth from the smallest one may explain."""
    return Target(costs[-1] / costs[0] * sizes[0] / sizes[-1], "linear growth", MOST)
