"""All benchmarks: importing this makes them known by their names."""

from benchmarks import (
    cost,
    inner,
    memory,
    order,
    price,
    qp,
    race,
    replicas,
    safety,
    sequences,
    step,
    unrolling,
)
from benchmarks.harness import BENCHMARKS, RESUMABLE, SCHEMAS, register_schemas
from benchmarks.peers import run as peers

__all__ = [
    "BENCHMARKS", "RESUMABLE", "SCHEMAS", "cost", "inner", "memory", "order", "peers", "price",
    "qp", "race", "register_schemas", "replicas", "safety", "sequences", "step", "unrolling",
]  # fmt: skip
