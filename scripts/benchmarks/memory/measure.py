"""The memory of one outer step: what waits for its backward, and the most that is alive."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.decoder import DecoderBatch
from benchmarks.live_bytes import LiveBytes
from benchmarks.quiet import quiet
from savi._minimize import minimize
from savi.errors import InputError
from savi.gradients import GradientBackend
from savi.inner import Momentum
from savi.inner.solution import Solution


@dataclass(frozen=True)
class Usage:
    """An outer step with K inner steps.

    Attributes:
        steps: K.
        saved: bytes of the tensors that the graph of the outer loss keeps for the backward, each
            storage once, without what was there before the solve.
        peak: the most bytes that were alive at once in the solve and the backward.
        seconds: of both, without the counting.
    """

    steps: int
    saved: int
    peak: int
    seconds: float


def measure(
    batch: DecoderBatch, backend: GradientBackend, optimizer: Momentum, steps: int
) -> Usage:
    """Take the step twice: once counting, once against the clock.

    Raises:
        InputError: if the descent ends before the last step.
    """
    given = {storage_of(tensor) for tensor in batch.given}
    graph = SavedTensors()
    with quiet():
        with LiveBytes() as memory:
            with torch.autograd.graph.saved_tensors_hooks(graph.pack, graph.unpack):
                loss = outer_loss(batch, backend, optimizer, steps)
            saved = graph.nbytes(given)
            torch.autograd.grad(loss, batch.leaves, allow_unused=True)
        start = time.perf_counter()
        loss = outer_loss(batch, backend, optimizer, steps)
        torch.autograd.grad(loss, batch.leaves, allow_unused=True)
        seconds = time.perf_counter() - start
    return Usage(steps, saved, memory.peak, seconds)


def outer_loss(
    batch: DecoderBatch, backend: GradientBackend, optimizer: Momentum, steps: int
) -> Tensor:
    """The mean of −L(θ, λK; x) over the batch, after exactly K steps.

    Raises:
        InputError: if the descent ends before the last step.
    """
    objective = batch.objective()
    solution = minimize(
        objective, batch.init, optimizer=optimizer, gradient=backend, max_steps=steps, rtol=0.0
    )
    require_all_steps(solution, optimizer, steps)
    return objective(solution.value).mean()


def require_all_steps(solution: Solution, optimizer: Momentum, steps: int) -> None:
    """Refuse a descent that took fewer steps than are counted.

    Raises:
        InputError: if it ended before the last step.
    """
    if bool((solution.steps != steps).any()):
        raise InputError(
            f"lr {optimizer.lr} with momentum {optimizer.momentum} ends the descent after "
            f"{int(solution.steps.min())} of {steps} steps, where it diverges or stands still: "
            "lower lr or the number of steps"
        )


class SavedTensors:
    """What a graph keeps, as long as it keeps it (for ``saved_tensors_hooks``)."""

    def __init__(self) -> None:
        self._alive: weakref.WeakSet[_Saved] = weakref.WeakSet()

    def pack(self, tensor: Tensor) -> _Saved:
        """Note a tensor that is saved."""
        # With its own grad_fn, the result of an operation would keep its graph alive for ever.
        saved = _Saved(tensor.detach())
        self._alive.add(saved)
        return saved

    def unpack(self, saved: _Saved) -> Tensor:
        """The tensor."""
        return saved.tensor

    def nbytes(self, without: Iterable[int]) -> int:
        """Bytes of all storages but those of ``without`` (see :func:`storage_of`)."""
        sizes = {
            storage_of(saved.tensor): saved.tensor.untyped_storage().nbytes()
            for saved in self._alive
        }
        return sum(sizes[storage] for storage in sizes.keys() - set(without))


class _Saved:
    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def storage_of(tensor: Tensor) -> int:
    """Which storage a tensor lies in: an address, the storage's own as long as it lives."""
    return tensor.untyped_storage().data_ptr()
