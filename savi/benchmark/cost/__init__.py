"""Time, memory and gradient error of a whole outer step, for every backend and optimiser."""

from savi.benchmark.cost.measure import Cost, Memory, Reference, measure, memory_of
from savi.benchmark.cost.run import run_cost
from savi.benchmark.cost.variants import OuterStep, Variant, by_steps, stable_descent

__all__ = [
    "Cost",
    "Memory",
    "OuterStep",
    "Reference",
    "Variant",
    "by_steps",
    "measure",
    "memory_of",
    "run_cost",
    "stable_descent",
]
