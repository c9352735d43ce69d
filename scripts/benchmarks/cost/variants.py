"""The outer steps whose cost is measured, and what their gradients are compared with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from benchmarks.batch import TrainedBatch
from benchmarks.harness import Config
from benchmarks.outer_step import (
    FLAT,
    Cost,
    OuterStep,
    all_backends,
    exact_gradient,
    relative_error,
    stable_descent,
)
from savi.gradients import GradientBackend
from savi.inner import InnerOptimizer, Momentum
from savi.inner.optimizers import OPTIMIZERS, GradientDescent

#: The backends that are combined with every inner optimiser.
PAIRED = ("ift", "stop")


class Variant(NamedTuple):
    """One way to take an outer step."""

    part: str  # of the benchmark: ``steps``, ``long``, ``optimizers``, ``batch`` or ``latent_dim``
    backend: str
    optimizer: str
    K: int  # inner steps
    B: int  # examples
    d: int  # latent dimensions
    D: int  # observed dimensions


Steps = dict[Variant, OuterStep[TrainedBatch]]
Costs = Mapping[Variant, Cost]
Lines = Mapping[tuple[str, str], Sequence[tuple[Variant, Cost]]]


def by_steps(batch: TrainedBatch, config: Config) -> Steps:
    """What is measured against K on one batch."""
    momentum, backends = stable_descent(batch, config), all_backends()
    descends: dict[str, InnerOptimizer] = {momentum.name: momentum}
    others = {n: o for n, o in all_optimizers(momentum).items() if n != momentum.name}
    flat, paired = ({name: backends[name] for name in names} for names in (FLAT, PAIRED))
    # One form of J for all, because another one would have another memory, whatever K is.
    most = max(config["long_steps"])
    return (
        combined("steps", batch, backends, descends, config["steps"])
        | combined("long", batch, flat, descends, config["long_steps"], most)
        | combined("optimizers", batch, paired, others, config["steps"])
    )


def growing(part: str, batch: TrainedBatch, config: Config) -> Steps:
    """What is measured at one B or d."""
    backends, optimizers = all_backends(), all_optimizers(stable_descent(batch, config))
    paired = {name: backends[name] for name in PAIRED}
    chosen = {name: optimizers[name] for name in config["growth_optimizers"]}
    return combined(part, batch, paired, chosen, [config["growth_steps"]])


def all_optimizers(momentum: Momentum) -> dict[str, InnerOptimizer]:
    """Every inner optimiser with its defaults; plain descent has the step size of ``momentum``."""
    return {
        name: cls(lr=momentum.lr) if issubclass(cls, GradientDescent) else cls()
        for name, cls in OPTIMIZERS.items()
        if name != momentum.name
    } | {momentum.name: momentum}


def combined(
    part: str, batch: TrainedBatch, backends: Mapping[str, GradientBackend],
    optimizers: Mapping[str, InnerOptimizer], counts: Iterable[int], expected: int | None = None,
) -> Steps:  # fmt: skip
    """Every backend with every optimiser and every number of inner steps."""
    size = (*batch.start.shape, batch.x.shape[1])
    return {
        Variant(part, name, other, K, *size): OuterStep(batch, backend, optimizer, K, expected)
        for K in counts
        for name, backend in backends.items()
        for other, optimizer in optimizers.items()
    }


class Reference:
    """The gradient at the exact inner solution, in double precision, for the first examples."""

    def __init__(self, batch: TrainedBatch, examples: int) -> None:
        self.examples = examples
        self.gradient = exact_gradient(batch.rows(examples).to(torch.float64))

    def error_of(self, step: OuterStep[TrainedBatch]) -> float:
        """‖g − g*‖ / ‖g*‖ over all weights, with g the step's gradient for the same examples."""
        few = replace(step, problem=step.problem.rows(self.examples))
        return relative_error(few.gradient(), self.gradient)


def series(costs: Costs, part: str) -> dict[tuple[str, str], list[tuple[Variant, Cost]]]:
    """The variants of a part by backend and optimiser, without those that were refused."""
    found: dict[tuple[str, str], list[tuple[Variant, Cost]]] = {}
    for variant, cost in costs.items():
        if variant.part == part and cost.timing.refusal is None:
            found.setdefault((variant.backend, variant.optimizer), []).append((variant, cost))
    return found
