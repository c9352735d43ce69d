"""How β, the weight of the KL term, goes: up in a warm-up, once or in cycles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def kl_weight(kl: Mapping[str, Any], step: int) -> float:
    """β at a step, counted from 0."""
    return kl["weight"] * warm_up(kl, step)


def warm_up(kl: Mapping[str, Any], step: int) -> float:
    """The factor of β at a step, counted from 0: it rises linearly during the warm-up, then stays.

    With ``cycle_steps`` it does so again and again (Fu et al. 2019, arXiv 1903.10145).
    """
    warmup, cycle = kl["warmup_steps"], kl["cycle_steps"]
    in_cycle = step % cycle if cycle else step
    return min(1.0, (in_cycle + 1) / warmup) if warmup else 1.0
