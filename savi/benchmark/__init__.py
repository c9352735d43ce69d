"""What the library claims, measured: ``savi-benchmark NAME``."""

from savi.benchmark import (
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
from savi.benchmark.registry import BENCHMARKS, Benchmark

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
