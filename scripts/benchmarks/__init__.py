"""What the library claims, measured: ``python scripts/benchmark.py NAME``."""

from benchmarks import (
    cost,
    inner,
    memory,
    order,
    peers,
    price,
    qp,
    race,
    replicas,
    safety,
    step,
    unrolling,
)
from benchmarks.harness import BENCHMARKS, RESUMABLE, SCHEMAS, register_schemas

__all__ = [
    "BENCHMARKS", "RESUMABLE", "SCHEMAS", "cost", "inner", "memory", "order", "peers", "price",
    "qp", "race", "register_schemas", "replicas", "safety", "step", "unrolling",
]  # fmt: skip
