"""The outer steps whose cost is measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.decoder import descent
from benchmarks.device import synchronise
from benchmarks.memory.run import variants as all_backends
from benchmarks.memory.targets import FLAT
from benchmarks.quiet import quiet
from benchmarks.trained import TrainedBatch
from savi._minimize import minimize
from savi.gradients import GradientBackend
from savi.inner.objective import InnerObjective
from savi.inner.optimizers import OPTIMIZERS, GradientDescent, InnerOptimizer, Momentum
from savi.inner.solution import Solution

#: The backends that are combined with every inner optimiser.
PAIRED = ("ift", "stop")


class BilevelProblem(Protocol):
    """An inner problem, and a loss at its solution."""

    @property
    def start(self) -> Float[Tensor, "B P"]:
        """λ0."""
        ...

    @property
    def weights(self) -> list[Tensor]:
        """θ: what the outer loss is differentiated in."""
        ...

    @property
    def given(self) -> list[Tensor]:
        """Every tensor that is there before the solve."""
        ...

    def objective(self, max_steps: int = 0) -> InnerObjective:
        """J(λ; θ), made anew as in every training step; ``max_steps`` evaluations are expected."""
        ...

    def outer(self, value: Float[Tensor, "B P"], /) -> Float[Tensor, ""]:
        """The outer loss at λ."""
        ...


ProblemT = TypeVar("ProblemT", bound=BilevelProblem)


class Variant(NamedTuple):
    """One way to take an outer step.

    Attributes:
        part: of the benchmark: ``steps``, ``long``, ``optimizers``, ``batch`` or ``latent_dim``.
        backend: the gradient backend.
        optimizer: the inner optimiser.
        K: inner steps.
        B: examples.
        d: latent dimensions.
        D: observed dimensions.
    """

    part: str
    backend: str
    optimizer: str
    K: int
    B: int
    d: int
    D: int


@dataclass(frozen=True)
class OuterStep(Generic[ProblemT]):
    """A solve from the problem's start, the outer loss there, and its backward to all weights.

    Attributes:
        batch: the problem.
        backend: how the solve is differentiated.
        optimizer: the inner optimiser.
        steps: K, of which none is left out unless the optimiser itself can go no further.
        expected: the K for which the form of J is chosen (see :meth:`TrainedBatch.objective`);
            None for K itself.
    """

    batch: ProblemT
    backend: GradientBackend
    optimizer: InnerOptimizer
    steps: int
    expected: int | None = None

    def solve(self) -> Solution:
        """The inner solution."""
        expected = self.steps if self.expected is None else self.expected
        return minimize(
            self.batch.objective(expected),
            self.batch.start,
            optimizer=self.optimizer,
            gradient=self.backend,
            max_steps=self.steps,
            rtol=0.0,
        )

    def loss(self) -> Tensor:
        """The outer loss with its graph."""
        return self.batch.outer(self.solve().value)

    def gradient(self) -> tuple[Tensor, ...]:
        """Of the outer loss, for every weight."""
        return torch.autograd.grad(self.loss(), self.batch.weights)

    def __call__(self) -> None:
        """Take the step to its end."""
        self.gradient()
        synchronise(self.batch.start.device)

    def of(self: OuterStep[TrainedBatch], examples: int) -> OuterStep[TrainedBatch]:
        """The step on the first of the examples alone."""
        return replace(self, batch=self.batch.rows(examples))


def stable_descent(problem: BilevelProblem, config: Mapping[str, Any]) -> Momentum:
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


def all_optimizers(momentum: Momentum) -> dict[str, InnerOptimizer]:
    """Every inner optimiser with its defaults; plain descent has the step size of ``momentum``."""
    return {
        name: cls(lr=momentum.lr) if issubclass(cls, GradientDescent) else cls()
        for name, cls in OPTIMIZERS.items()
        if name != momentum.name
    } | {momentum.name: momentum}


def combined(
    part: str,
    batch: TrainedBatch,
    backends: Mapping[str, GradientBackend],
    optimizers: Mapping[str, InnerOptimizer],
    counts: Iterable[int],
    expected: int | None = None,
) -> dict[Variant, OuterStep[TrainedBatch]]:
    """Every backend with every optimiser and every number of inner steps.

    Args:
        part: its name.
        batch: the problem.
        backends: by name.
        optimizers: by name.
        counts: the numbers K.
        expected: see :class:`OuterStep`.
    """
    size = (*batch.start.shape, batch.x.shape[1])
    return {
        Variant(part, name, optimizer_name, count, *size): OuterStep(
            batch, backend, optimizer, count, expected
        )
        for count in counts
        for name, backend in backends.items()
        for optimizer_name, optimizer in optimizers.items()
    }


def by_steps(
    batch: TrainedBatch, config: Mapping[str, Any]
) -> dict[Variant, OuterStep[TrainedBatch]]:
    """What is measured against K on one batch.

    Args:
        batch: the problem.
        config: see :func:`benchmarks.cost.run.run_cost`.
    """
    momentum, backends = stable_descent(batch, config), all_backends()
    descends: dict[str, InnerOptimizer] = {momentum.name: momentum}
    others = {n: o for n, o in all_optimizers(momentum).items() if n != momentum.name}
    flat = {name: backends[name] for name in FLAT}
    # One form of J for all, because another one would have another memory, whatever K is.
    most = max(config["long_steps"])
    paired = {name: backends[name] for name in PAIRED}
    return (
        combined("steps", batch, backends, descends, config["steps"])
        | combined("long", batch, flat, descends, config["long_steps"], most)
        | combined("optimizers", batch, paired, others, config["steps"])
    )
