"""An outer step, and its bytes, its seconds and the error of its gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from benchmarks.decoder import descent
from benchmarks.harness import Config
from benchmarks.live_bytes import LiveBytes, SavedTensors, storage_of
from benchmarks.progress import Progress, quiet
from benchmarks.timing import Name, Timing, interleaved, synchronise
from savi._minimize import minimize
from savi.errors import InputError
from savi.gradients import BACKENDS, Checkpointed, GradientBackend, Implicit
from savi.inner import InnerOptimizer, LevenbergMarquardt, Momentum
from savi.inner.objective import InnerObjective
from savi.inner.solution import Solution
from savi.types import Rows, Scalar

#: ``checkpointed`` in its two forms.
SQRT, STEP = "checkpointed every=sqrt", "checkpointed every=step"
#: The backends whose memory does not depend on the number of inner steps at all.
FLAT = ("stop", "one_step", "ift")
#: Steps of the exact solution, which needs about ten.
MAX_STEPS = 200


class BilevelProblem(Protocol):
    """An inner problem, and a loss at its solution."""

    @property
    def start(self) -> Rows:
        """λ0."""

    @property
    def weights(self) -> list[Tensor]:
        """What the outer loss is differentiated in."""

    @property
    def given(self) -> list[Tensor]:
        """Every tensor that is there before the solve."""

    def objective(self, max_steps: int = 0) -> InnerObjective:
        """J(λ; θ), made anew as in every training step; ``max_steps`` evaluations are expected."""

    def outer(self, value: Rows, /) -> Scalar:
        """The outer loss at λ."""


ProblemT = TypeVar("ProblemT", bound=BilevelProblem)


@dataclass(frozen=True)
class OuterStep(Generic[ProblemT]):
    """A solve from the problem's start, the outer loss there, and its backward to all weights."""

    problem: ProblemT  # what is solved
    backend: GradientBackend  # how the solve is differentiated
    optimizer: InnerOptimizer
    #: K, of which none is left out unless the optimiser itself can go no further, or ``rtol`` is
    #: above 0.
    steps: int
    expected: int | None = None  # the K for which the form of J is chosen; None for K itself
    rtol: float = 0.0  # where the solve may stop earlier
    compile: bool = False  # whether the inner gradient is compiled
    whole: bool = False  # whether a solve that ends before its last step is refused

    def solve(self) -> Solution:
        """The inner solution."""
        solution = minimize(
            self.problem.objective(self.steps if self.expected is None else self.expected),
            self.problem.start,
            optimizer=self.optimizer,
            gradient=self.backend,
            max_steps=self.steps,
            rtol=self.rtol,
            compile=self.compile,
        )
        if self.whole and bool((solution.steps != self.steps).any()):
            assert isinstance(self.optimizer, Momentum)
            raise InputError(
                f"lr {self.optimizer.lr} with momentum {self.optimizer.momentum} ends the descent "
                f"after {int(solution.steps.min())} of {self.steps} steps, where it diverges or "
                "stands still: lower lr or the number of steps"
            )
        return solution

    def loss(self) -> Tensor:
        """The outer loss with its graph."""
        return self.problem.outer(self.solve().value)

    def gradient(self) -> tuple[Tensor, ...]:
        """Of the outer loss, for every weight; None for one that it does not depend on."""
        return torch.autograd.grad(self.loss(), self.problem.weights, allow_unused=True)

    def __call__(self) -> tuple[Tensor, ...]:
        """Take the step to its end."""
        gradient = self.gradient()
        synchronise(self.problem.start.device)
        return gradient


class Memory(NamedTuple):
    """The memory of an outer step, beyond what was there before."""

    #: bytes of the tensors that the graph of the outer loss keeps for the backward, each storage
    #: once.
    saved: int
    #: the most bytes of tensors that were alive at once; None on a GPU, whose backward cannot be
    #: watched.
    live: int | None
    allocated: int | None  # the most bytes that the GPU's allocator gave out; None on the CPU

    @property
    def peak(self) -> int:
        """The most bytes at once, as far as the device lets them be known."""
        peak = self.allocated if self.live is None else self.live
        assert peak is not None
        return peak


@dataclass(frozen=True)
class Cost:
    """All that was measured of an outer step."""

    timing: Timing  # its seconds, or why there are none
    memory: Memory | None  # None if it was refused
    error: float | None  # ‖g − g*‖ / ‖g*‖ over all weights; None where it was not asked for

    @property
    def peak(self) -> float:
        """The peak of memory; NaN if it was refused."""
        return float("nan") if self.memory is None else self.memory.peak


class Usage(NamedTuple):
    """An outer step with K inner steps: bytes saved, their peak, and seconds."""

    steps: int
    saved: int
    peak: int
    seconds: float


def usages(steps: Iterable[int], costs: Iterable[Cost]) -> list[Usage]:
    """What was used at each K."""
    return [
        Usage(K, cost.memory.saved, cost.memory.peak, cost.timing.median)
        for K, cost in zip(steps, costs, strict=True)
        if cost.memory is not None
    ]


def measure(
    steps: Mapping[Name, OuterStep[ProblemT]],
    repetitions: int,
    advance: Callable[[Name], None],
    error_of: Callable[[OuterStep[ProblemT]], float] | None = None,
) -> dict[Name, Cost]:
    """Bytes and errors of each step, and then its seconds, all of them interleaved.

    Args:
        steps: by name.
        repetitions: how often each is timed.
        advance: told of each call that is done: ``repetitions`` + 2 for each.
        error_of: the error of a step's gradient, if errors are asked for.
    """
    memories: dict[Name, Memory] = {}
    errors: dict[Name, float] = {}
    with quiet():
        for name, step in steps.items():
            # The timing meets a refusal again, and keeps its sentence.
            with suppress(InputError):
                memories[name] = memory_of(step)
                if error_of is not None:
                    errors[name] = error_of(step)
            advance(name)
        timings = interleaved(steps, repetitions, advance)
    return {n: Cost(timings[n], memories.get(n), errors.get(n)) for n in steps}


def against_steps(
    problem: ProblemT, backends: Mapping[str, GradientBackend], optimizer: InnerOptimizer,
    counts: Sequence[int], repetitions: int, progress: Progress,
    error_of: Callable[[OuterStep[ProblemT]], float] | None = None,
) -> dict[str, list[Cost]]:  # fmt: skip
    """What each backend costs at each number K of whole descents.

    Raises:
        InputError: if a descent ends early.
    """
    steps = {
        (name, K): OuterStep(problem, backend, optimizer, K, whole=True)
        for K in counts
        for name, backend in backends.items()
    }

    def advance(step: tuple[str, int]) -> None:
        progress.advance(f"{step[0]}, K = {step[1]}")

    costs = measure(steps, repetitions, advance, error_of)
    for cost in costs.values():
        if cost.timing.refusal is not None:
            raise InputError(cost.timing.refusal)
    return {name: [costs[name, K] for K in counts] for name in backends}


def memory_of(step: OuterStep[Any]) -> Memory:
    """Take the step once, counting."""
    device, graph = step.problem.start.device, SavedTensors()
    given = {storage_of(tensor) for tensor in step.problem.given}
    before = 0
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    with quiet(), LiveBytes() as live:
        with graph.watched():
            loss = step.loss()
        saved = graph.nbytes(given)
        torch.autograd.grad(loss, step.problem.weights, allow_unused=True)
    if device.type == "cuda":
        return Memory(saved, None, torch.cuda.max_memory_allocated(device) - before)
    return Memory(saved, live.peak, None)


def exact_gradient(problem: BilevelProblem) -> tuple[Tensor, ...]:
    """g*: of the outer loss at the exact inner solution, by the implicit function theorem.

    Args:
        problem: in double precision.
    """
    solver, theorem = LevenbergMarquardt(), Implicit(solver="cholesky")
    with quiet():
        return OuterStep(problem, theorem, solver, MAX_STEPS, expected=0, rtol=1e-12).gradient()


def relative_error(gradient: Sequence[Tensor], exact: Sequence[Tensor]) -> float:
    """‖g − g*‖ / ‖g*‖ over all weights."""
    difference = [g.double() - r for g, r in zip(gradient, exact, strict=True)]
    return float(_norm(difference) / _norm(exact))


def _norm(parts: Sequence[Tensor]) -> Tensor:
    return torch.stack([part.norm() for part in parts]).norm()


def all_backends() -> dict[str, GradientBackend]:
    """Every backend with its defaults, and ``checkpointed`` in two forms."""
    backends: dict[str, GradientBackend] = {
        name: cls() for name, cls in BACKENDS.items() if name != "checkpointed"
    }
    return backends | {SQRT: Checkpointed("sqrt"), STEP: Checkpointed("step")}


def stable_descent(problem: BilevelProblem, config: Config) -> Momentum:
    """Momentum descent with α = c / λmax, the largest eigenvalue of any example's curvature at λ0.

    Args:
        problem: with J and λ0.
        config: c as ``relative_lr``, and ``momentum``.

    Raises:
        InputError: for values out of range, or a momentum that some backend cannot use.
    """
    with quiet():
        curvature = problem.objective().curvature(problem.start)
    sharpest = float(torch.linalg.eigvalsh(curvature).max())
    return descent({"lr": config["relative_lr"] / sharpest, "momentum": config["momentum"]})
