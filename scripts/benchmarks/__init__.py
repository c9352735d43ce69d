"""What the library claims, measured: ``python scripts/benchmark.py NAME``."""

from benchmarks import (
    cost,
    inner,
    memory,
    order,
    peers,
    qp,
    replicas,
    safety,
    step,
    unrolling,
)
from benchmarks.registry import BENCHMARKS, Benchmark

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "cost",
    "inner",
    "memory",
    "order",
    "peers",
    "qp",
    "replicas",
    "safety",
    "step",
    "unrolling",
]
