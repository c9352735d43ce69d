"""What an outer step costs, and how far its gradient is off."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from benchmarks.cost.variants import BilevelProblem, OuterStep, ProblemT
from benchmarks.live_bytes import LiveBytes
from benchmarks.memory.measure import SavedTensors, storage_of
from benchmarks.quiet import quiet
from benchmarks.step.timing import Timing, interleaved
from benchmarks.trained import TrainedBatch
from savi._minimize import minimize
from savi.errors import InputError
from savi.gradients import Implicit
from savi.inner import LevenbergMarquardt

#: Steps of the reference, which needs about ten.
MAX_STEPS = 200

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Memory:
    """The memory of an outer step, beyond what was there before.

    Attributes:
        saved: bytes of the tensors that the graph of the outer loss keeps for the backward.
        live: the most bytes of tensors that were alive at once; None on a GPU, whose backward
            cannot be watched.
        allocated: the most bytes that the GPU's allocator gave out; None on the CPU.
    """

    saved: int
    live: int | None
    allocated: int | None

    @property
    def peak(self) -> int:
        """The most bytes at once, as far as the device lets them be known."""
        peak = self.allocated if self.live is None else self.live
        assert peak is not None
        return peak


@dataclass(frozen=True)
class Cost:
    """All that was measured of a variant.

    Attributes:
        timing: its seconds, or why there are none.
        memory: None if it was refused.
        error: ‖g − g*‖ / ‖g*‖ over all weights; None where it was not asked for.
    """

    timing: Timing
    memory: Memory | None
    error: float | None


def measure(
    steps: Mapping[Name, OuterStep[ProblemT]],
    repetitions: int,
    advance: Callable[[Name], None],
    error_of: Callable[[OuterStep[ProblemT]], float] | None = None,
) -> dict[Name, Cost]:
    """Bytes and errors of each variant, and then its seconds, all of them interleaved.

    Args:
        steps: by variant.
        repetitions: how often each is timed.
        advance: told of each call that is done.
        error_of: the error of a step's gradient, if errors are asked for.
    """
    memories: dict[Name, Memory] = {}
    errors: dict[Name, float] = {}
    with quiet():
        for variant, step in steps.items():
            # The timing meets a refusal again, and keeps its sentence.
            with suppress(InputError):
                memories[variant] = memory_of(step)
                if error_of is not None:
                    errors[variant] = error_of(step)
            advance(variant)
        timings = interleaved(steps, repetitions, advance)
    return {v: Cost(timings[v], memories.get(v), errors.get(v)) for v in steps}


def memory_of(step: OuterStep[ProblemT]) -> Memory:
    """Take the step once, counting."""
    device, graph = step.batch.start.device, SavedTensors()
    given = {storage_of(tensor) for tensor in step.batch.given}
    before = 0
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    with LiveBytes() as live:
        with torch.autograd.graph.saved_tensors_hooks(graph.pack, graph.unpack):
            loss = step.loss()
        saved = graph.nbytes(given)
        torch.autograd.grad(loss, step.batch.weights)
    if device.type == "cuda":
        return Memory(saved, None, torch.cuda.max_memory_allocated(device) - before)
    return Memory(saved, live.peak, None)


class Reference:
    """The gradient at the exact inner solution, in double precision.

    Args:
        batch: the problem, of which the first examples count.
        examples: how many.

    Raises:
        InputError: if there are not so many.
    """

    def __init__(self, batch: TrainedBatch, examples: int) -> None:
        self.examples = examples
        self.gradient = exact_gradient(batch.rows(examples).to(torch.float64))

    def error_of(self, step: OuterStep[TrainedBatch]) -> float:
        """‖g − g*‖ / ‖g*‖ over all weights, with g the step's gradient for the same examples."""
        return relative_error(step.of(self.examples).gradient(), self.gradient)


def exact_gradient(problem: BilevelProblem) -> tuple[Tensor, ...]:
    """g*: of the outer loss at the exact inner solution, by the implicit function theorem.

    Args:
        problem: in double precision.
    """
    with quiet():
        solution = minimize(
            problem.objective(),
            problem.start,
            optimizer=LevenbergMarquardt(),
            gradient=Implicit(solver="cholesky"),
            max_steps=MAX_STEPS,
            rtol=1e-12,
        )
        return torch.autograd.grad(problem.outer(solution.value), problem.weights)


def relative_error(gradient: Sequence[Tensor], exact: Sequence[Tensor]) -> float:
    """‖g − g*‖ / ‖g*‖ over all weights."""
    difference = [g.double() - r for g, r in zip(gradient, exact, strict=True)]
    return float(_norm(difference) / _norm(exact))


def _norm(parts: Sequence[Tensor]) -> Tensor:
    return torch.stack([part.norm() for part in parts]).norm()
