"""One system in a process of its own: ``python -m benchmarks.peers.worker``.

A line of JSON on stdin asks, a line on stdout answers:

    (at the start)                        {"note": "..."} when it is warm
    {"seconds": 0.5}                      {"seconds": the median of one outer step's seconds}
    {"path": "answer.npz"}                {} when the file is there: z, g0, g1, ...
    (whatever fails)                      {"failure": "..."} and the end
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any, TextIO

import numpy as np

from benchmarks.peers.limits import confine
from benchmarks.peers.problem import Problem
from benchmarks.peers.systems import SYSTEMS, NotReached, Settings, System
from savi.errors import InputError

#: Outer steps before the first that is timed, the one that compiles among them.
WARM_UP = 2


def main(name: str, path: str, threads: int, settings: dict[str, Any]) -> None:
    """Serve until stdin ends."""
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        confine(threads)
        system = SYSTEMS[name](Problem.load(Path(path)), Settings(**settings))
        for _ in range(WARM_UP):
            system.step()
        _tell(answers, note=system.note)
        for line in sys.stdin:
            _tell(answers, **_done(system, json.loads(line)))
    except (InputError, NotReached) as error:
        _tell(answers, failure=str(error))
    except Exception as error:
        _tell(answers, failure=f"{type(error).__name__}: {error}")
        raise


def _done(system: System, order: dict[str, Any]) -> dict[str, Any]:
    if "seconds" in order:
        return {"seconds": timed(system, order["seconds"])}
    value, gradient = system.step()
    arrays: dict[str, Any] = {f"g{i}": np.asarray(part) for i, part in enumerate(gradient)}
    np.savez(order["path"], z=np.asarray(value), **arrays)
    return {}


def timed(system: System, least: float) -> float:
    """Median seconds of one outer step, of as many as begin within ``least`` seconds.

    What the other processes have left in the caches costs a fast system no more than a slow one.
    """
    seconds: list[float] = []
    while not seconds or sum(seconds) < least:
        start = time.perf_counter()
        system.step()
        seconds.append(time.perf_counter() - start)
    return median(seconds)


def _tell(answers: TextIO, **message: Any) -> None:
    print(json.dumps(message), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4]))
