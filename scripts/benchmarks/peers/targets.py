"""How many times faster than other libraries this one should be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.harness import Target
from benchmarks.peers.outcome import Outcome, fastest, ours

#: From so many dimensions on, the images count as large.
LARGE = 10_000


@dataclass(frozen=True)
class Rival:
    """The fastest of a group of other systems.

    Attributes:
        group: which, in words.
        outcome: of that system.
        target: its time in units of ours.
    """

    group: str
    outcome: Outcome
    target: Target


def rivals(outcomes: Sequence[Outcome], tolerance: float) -> list[Rival]:
    """Our fastest implicit gradient against the fastest peers; only right gradients count.

    Args:
        outcomes: of all systems on the problem.
        tolerance: how far off a gradient that counts may be.
    """
    base = ours(outcomes, tolerance)
    if base is None:
        return []
    peers = [outcome for outcome in outcomes if not outcome.system.is_ours()]
    groups: list[tuple[str, Sequence[Outcome], float]]
    if base.part == "converged":
        first, second = (_of_kind(peers, kind) for kind in ("first_order", "second_order"))
        groups = [("first-order", first, 10.0), ("second-order", second, 3.0)]
    elif base.data_dim >= LARGE:
        groups = [("all", peers, 8.0)]
    else:
        groups = [("all", peers, 2.0), ("unrolled", _of_kind(peers, "unrolled"), 5.0)]
    return [
        Rival(
            group,
            found,
            Target(found.timing.over(base.timing), base.system.label, math.inf, least),
        )
        for group, members, least in groups
        if (found := fastest(members, tolerance)) is not None
    ]


def _of_kind(outcomes: Sequence[Outcome], kind: str) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.system.kind == kind]
