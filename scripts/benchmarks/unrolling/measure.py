"""The outer steps that are measured, and what each of them cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from benchmarks.cost.measure import Cost, measure, relative_error
from benchmarks.cost.variants import BilevelProblem, OuterStep, stable_descent
from benchmarks.memory.measure import Usage, require_all_steps
from benchmarks.memory.targets import SQRT
from savi.errors import InputError
from savi.gradients import Checkpointed, GradientBackend, Implicit, Reversible, Unrolled
from savi.inner import Momentum
from savi.inner.solution import Solution

#: ``ift`` without the matrix H: by products with it alone.
CG = "ift solver=cg"
#: Relative residual of those products' solve, far below what the figure shows.
CG_RTOL = 1e-12


class Problem(BilevelProblem, Protocol):
    """A problem whose gradient is known."""

    def exact(self) -> tuple[Tensor, ...]:
        """The gradient at the exact solution."""
        ...


class Variant(NamedTuple):
    """A backend and a number of inner steps."""

    backend: str
    K: int


@dataclass(frozen=True)
class WholeStep(OuterStep[Problem]):
    """An outer step whose K inner steps are all taken."""

    def solve(self) -> Solution:
        """The inner solution.

        Raises:
            InputError: if the descent ends before the last step.
        """
        solution = super().solve()
        assert isinstance(self.optimizer, Momentum)
        require_all_steps(solution, self.optimizer, self.steps)
        return solution


@dataclass(frozen=True)
class Outcome:
    """What was measured of a problem.

    Attributes:
        costs: by variant.
        scalars: of λ0; ``reversible`` keeps the bits that each of them loses.
        momentum: of the descent.
    """

    costs: Mapping[Variant, Cost]
    scalars: int
    momentum: float

    @property
    def backends(self) -> list[str]:
        """Their names, in the order of measurement."""
        return list(dict.fromkeys(variant.backend for variant in self.costs))

    @property
    def steps(self) -> list[int]:
        """The numbers K."""
        return list(dict.fromkeys(variant.K for variant in self.costs))

    def of(self, backend: str) -> list[Cost]:
        """The costs of a backend, in increasing order of K."""
        return [self.costs[Variant(backend, K)] for K in self.steps]

    def usages(self) -> dict[str, list[Usage]]:
        """Memory and seconds of each backend, in increasing order of K."""
        return {
            name: [
                Usage(K, cost.memory.saved, cost.memory.peak, cost.timing.median)
                for K, cost in zip(self.steps, self.of(name), strict=True)
                if cost.memory is not None
            ]
            for name in self.backends
        }


def backends() -> dict[str, GradientBackend]:
    """The backends that are compared."""
    return {
        "unrolled": Unrolled(),
        SQRT: Checkpointed("sqrt"),
        "reversible": Reversible(),
        "ift": Implicit(),
        CG: Implicit(solver="cg", rtol=CG_RTOL),
    }


def outcome_of(
    problem: Problem, config: Mapping[str, Any], advance: Callable[[Variant], None]
) -> Outcome:
    """Measure every backend at every K.

    Args:
        problem: one of the two.
        config: ``steps``, ``relative_lr``, ``momentum`` and ``repetitions``.
        advance: told of each call that is done.

    Raises:
        InputError: for a step size or a momentum out of range, or a descent that ends early.
    """
    optimizer = stable_descent(problem, config)
    exact = problem.exact()
    steps = {
        Variant(name, K): WholeStep(problem, backend, optimizer, K)
        for K in config["steps"]
        for name, backend in backends().items()
    }
    costs = measure(
        steps,
        config["repetitions"],
        advance,
        lambda step: relative_error(step.gradient(), exact),
    )
    for cost in costs.values():
        if cost.timing.refusal is not None:
            raise InputError(cost.timing.refusal)
    return Outcome(costs, problem.start.numel(), optimizer.momentum)
