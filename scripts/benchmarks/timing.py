"""Times that can be compared although the machine is not quiet, and the device they are of."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from tempfile import TemporaryDirectory
from typing import TypeVar

import torch

from savi.errors import CombinationError, InputError, unknown_option

DEVICES = ("auto", "cpu", "cuda")
Name = TypeVar("Name", bound=Hashable)


@dataclass
class Timing:
    """The seconds of one variant."""

    first: float  # of the first call, which may compile; NaN if it was refused
    seconds: list[float] = field(default_factory=list)  # of the calls after it, one for each round
    refusal: str | None = None  # why it cannot run here; None if it can

    @property
    def median(self) -> float:
        """The median of the seconds."""
        return median(self.seconds)

    def over(self, other: Timing) -> float:
        """The median over the rounds of this variant's seconds over the other's.

        What slows the machine down for a while slows both down.
        """
        return median(a / b for a, b in zip(self.seconds, other.seconds, strict=True))


def interleaved(
    calls: Mapping[Name, Callable[[], object]],
    repetitions: int,
    advance: Callable[[Name], None],
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Name, Timing]:
    """Call each once to warm up, then all of them in turn, round after round.

    A call that raises an InputError is left out of the rounds. (``torch.utils.benchmark`` times
    one statement after another, which a machine that slows down in between makes incomparable.)
    """
    timings = {}
    for name, call in calls.items():
        try:
            timings[name] = Timing(_seconds(call, clock))
        except InputError as error:
            # Tables call optimisers what configs call them.
            sentence = error.in_config if isinstance(error, CombinationError) else str(error)
            timings[name] = Timing(float("nan"), refusal=sentence)
        advance(name)
    for _ in range(repetitions):
        for name, call in calls.items():
            if timings[name].refusal is None:
                timings[name].seconds.append(_seconds(call, clock))
            advance(name)
    return timings


def _seconds(call: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    call()
    return clock() - start


@contextmanager
def empty_compiler_cache() -> Iterator[None]:
    """Inside, what is compiled takes as long as the first time on a machine."""
    key = "TORCHINDUCTOR_CACHE_DIR"
    before = os.environ.get(key)
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.environ[key] = folder
        try:
            yield
        finally:
            del os.environ[key]
            if before is not None:
                os.environ[key] = before


def chosen_device(name: str) -> torch.device:
    """The device of that name; ``auto`` is the GPU if there is one."""
    if name not in DEVICES:
        raise unknown_option("device", name, DEVICES)
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device 'cuda': this machine has no CUDA GPU, so set device=cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was told, so that a clock may be read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
