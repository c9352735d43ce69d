"""What the library claims, measured: ``python scripts/benchmark.py NAME``."""

from benchmarks import cost, inner, memory, order, peers, qp, replicas, safety, step, unrolling
from benchmarks.harness import BENCHMARKS, SCHEMAS, register_schemas

__all__ = [
    "BENCHMARKS", "SCHEMAS", "cost", "inner", "memory", "order", "peers", "qp", "register_schemas",
    "replicas", "safety", "step", "unrolling",
]  # fmt: skip
