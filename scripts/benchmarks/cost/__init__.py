"""Time, memory and gradient error of a whole outer step, for every backend and optimiser."""

from benchmarks.cost.measure import (
    Cost,
    Memory,
    Reference,
    exact_gradient,
    measure,
    memory_of,
    relative_error,
)
from benchmarks.cost.run import run_cost
from benchmarks.cost.variants import (
    BilevelProblem,
    OuterStep,
    Variant,
    by_steps,
    stable_descent,
)

__all__ = [
    "BilevelProblem",
    "Cost",
    "Memory",
    "OuterStep",
    "Reference",
    "Variant",
    "by_steps",
    "exact_gradient",
    "measure",
    "memory_of",
    "relative_error",
    "run_cost",
    "stable_descent",
]
