"""What the library claims, measured: ``savi-benchmark NAME``."""

from savi.benchmark import order, safety
from savi.benchmark.registry import BENCHMARKS, Benchmark

__all__ = ["BENCHMARKS", "Benchmark", "order", "safety"]
