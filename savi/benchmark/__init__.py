"""What the library claims, measured: ``savi-benchmark NAME``."""

from savi.benchmark import memory, order, safety, step
from savi.benchmark.registry import BENCHMARKS, Benchmark

__all__ = ["BENCHMARKS", "Benchmark", "memory", "order", "safety", "step"]
