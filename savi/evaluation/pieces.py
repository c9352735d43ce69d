"""A long estimate in pieces: noise that belongs to the example, and how far it has come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Self

import torch
from torch import Tensor

from savi.types import PerSample, Samples

#: Called every so often with the fraction of the work that is done, from above 0 to 1.
Progress = Callable[[float], None]


def silent(fraction: float) -> None:
    """Show nothing."""


def portion(progress: Progress, start: float, end: float) -> Progress:
    """The progress of a part that takes the whole from ``start`` to ``end``."""
    return lambda fraction: progress(start + (end - start) * fraction)


def ticks(progress: Progress, total: int) -> Callable[[], None]:
    """What is called when each of ``total`` equal parts of the work is done."""
    done = count(1)
    return lambda: progress(next(done) / total)


class ExampleStreams:
    """One stream of random numbers for every example.

    A long simulation of a batch can then be done in pieces, or for some of the examples alone, and
    each example sees the same noise.

    Args:
        seeds: of the streams, one for every example.
        like: the dtype and the device of the numbers; they are drawn on the CPU.
    """

    def __init__(self, seeds: Sequence[int], like: Tensor) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._like = like

    @classmethod
    def spawn(cls, examples: int, generator: torch.Generator, like: Tensor) -> Self:
        """With seeds that ``generator`` draws."""
        device = generator.device
        seeds = torch.randint(2**62, (examples,), generator=generator, device=device)
        return cls(seeds.tolist(), like)

    def __getitem__(self, examples: slice) -> ExampleStreams:
        """The streams of some of the examples, which go on where those stand."""
        few = ExampleStreams([], self._like)
        few._generators = self._generators[examples]
        return few

    def normal(self, chains: int, d: int) -> Samples:
        """Standard normal numbers."""
        dtype = self._like.dtype
        draws = [torch.randn(chains, d, generator=g, dtype=dtype) for g in self._generators]
        return torch.stack(draws, dim=1).to(self._like.device)

    def uniform(self, chains: int) -> PerSample:
        """Numbers in [0, 1)."""
        dtype = self._like.dtype
        draws = [torch.rand(chains, generator=g, dtype=dtype) for g in self._generators]
        return torch.stack(draws, dim=1).to(self._like.device)
