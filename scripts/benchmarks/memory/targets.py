"""How memory should grow with the number of inner steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from benchmarks.memory.measure import Usage
from benchmarks.target import Target
from savi.errors import InputError

#: The backends whose memory does not depend on K at all.
FLAT = ("stop", "one_step", "ift")
TOLERANCE = 0.05
#: ``checkpointed`` in its two forms, and the most that the first may take in √K unrolled steps.
SQRT, STEP = "checkpointed every=sqrt", "checkpointed every=step"
MOST = 2.0


def require_comparable(steps: Sequence[int]) -> None:
    """Refuse numbers K that the targets cannot compare.

    Raises:
        InputError: unless there are three of them, rising from 1 on.
    """
    if len(steps) < 3 or steps[0] != 1 or list(steps) != sorted(set(steps)):
        raise InputError(
            f"steps is {steps}: give at least three rising numbers from 1 on, such as [1,10,100]"
        )


def flat(last: float, first: float, base: str) -> Target:
    """The target of memory that does not grow."""
    return Target(last / first, base, 1.0 + TOLERANCE, 1.0 - TOLERANCE)


def saved_target(name: str, usages: Sequence[Usage]) -> Target | None:
    """What is asked of the saved bytes of a backend; None for those without a target.

    Args:
        name: the backend.
        usages: in increasing order of K.
    """
    if name not in FLAT:
        return None
    return flat(usages[-1].saved, usages[0].saved, f"K = {usages[0].steps}")


def peak_target(
    name: str, usages: Mapping[str, Sequence[Usage]], lost_bits: float
) -> Target | None:
    """What is asked of the peak of a backend; None for those without a target.

    ``reversible`` is compared with the second K: with one step there are no gradients of another
    one alive, to which those of the step are added.

    Args:
        name: the backend.
        usages: by backend, in increasing order of K; the first K is 1.
        lost_bits: the bits that ``reversible`` keeps of every step, of all scalars together.
    """
    first, second, *_, last = usages[name]
    if name in FLAT:
        return flat(last.peak, first.peak, f"K = {first.steps}")
    if name == "reversible":
        kept = lost_bits * (last.steps - second.steps) / 8.0
        return flat(last.peak - kept, second.peak, f"K = {second.steps} less bits")
    if name == SQRT:
        step = usages["unrolled"][0].peak
        return Target(last.peak / (math.sqrt(last.steps) * step), "√K unrolled steps", MOST)
    return None
