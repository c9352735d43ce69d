"""The systems under test, one package a file."""

from savi.benchmark.peers.systems import (
    higher,
    jax_converged,
    jax_fixed,
    optimistix,
    savi,
    torchdeq,
    torchopt,
)
from savi.benchmark.peers.systems.base import SYSTEMS, Answer, NotReached, Settings, System

__all__ = [
    "SYSTEMS",
    "Answer",
    "NotReached",
    "Settings",
    "System",
    "higher",
    "jax_converged",
    "jax_fixed",
    "optimistix",
    "savi",
    "torchdeq",
    "torchopt",
]
