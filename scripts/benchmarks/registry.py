"""What a benchmark is, and which there are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from rich.table import Table

from savi.registry import Registry


class Benchmark(Protocol):
    """A function that measures, writes its figures into a folder, and returns what to print."""

    def __call__(self, config: Mapping[str, Any], folder: Path) -> list[Table]:
        """Run the benchmark.

        Args:
            config: its file of ``conf/benchmark/`` as plain values.
            folder: the run folder, which exists.

        Raises:
            InputError: before any file is written, for whatever is wrong with the config.
        """


#: By name; ``conf/benchmark/NAME.yaml`` holds the config, and ``SCHEMAS`` its schema. Each writes
#: at least ``NAME.csv``.
BENCHMARKS: Registry[Benchmark] = Registry("benchmark")
