"""What the library claims, measured: ``python scripts/benchmark.py NAME``."""

from benchmarks import (
    cost,
    inner,
    memory,
    order,
    peers,
    price,
    qp,
    replicas,
    safety,
    step,
    unrolling,
)
from benchmarks.harness import BENCHMARKS, SCHEMAS, register_schemas

__all__ = [
    "BENCHMARKS", "SCHEMAS", "cost", "inner", "memory", "order", "peers", "price", "qp",
    "register_schemas", "replicas", "safety", "step", "unrolling",
]  # fmt: skip
