"""How the memory of each backend should grow with the number of inner steps."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmarks.memory.measure import Usage
from benchmarks.memory.targets import TOLERANCE, flat, peak_target
from benchmarks.target import Target
from benchmarks.unrolling.measure import CG, Outcome


def targets(outcome: Outcome) -> dict[str, Target]:
    """What is asked of the peaks: all of them as in the benchmark ``memory``, and two more.

    ``unrolled`` must grow linearly, ``ift`` with either solver not at all.
    """
    usages = outcome.usages()
    lost_bits = math.log2(1.0 / outcome.momentum) * outcome.scalars
    found = {name: peak_target(name, usages, lost_bits) for name in usages}
    matrix_free = usages[CG]
    found |= {
        "unrolled": linear(usages["unrolled"]),
        CG: flat(matrix_free[-1].peak, matrix_free[0].peak, f"K = {matrix_free[0].steps}"),
    }
    return {name: target for name, target in found.items() if target is not None}


def linear(usages: Sequence[Usage]) -> Target:
    """The target of memory that grows by the same bytes at every step, from the second K on.

    With one step alone the peak lies elsewhere in the solve.

    Args:
        usages: in increasing order of K, at least four.
    """
    _, second, *_, before, last = usages
    late, early = (
        (b.peak - a.peak) / (b.steps - a.steps) for a, b in ((before, last), (second, before))
    )
    base = f"bytes per step up to K = {before.steps:,}"
    return Target(late / early, base, 1.0 + TOLERANCE, 1.0 - TOLERANCE)
