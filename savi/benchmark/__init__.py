"""What the library claims, measured: ``savi-benchmark NAME``."""

from savi.benchmark import cost, inner, memory, order, peers, replicas, safety, step
from savi.benchmark.registry import BENCHMARKS, Benchmark

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "cost",
    "inner",
    "memory",
    "order",
    "peers",
    "replicas",
    "safety",
    "step",
]
