"""The systems under test, one package a file."""

from benchmarks.peers.systems import (
    higher,
    jax_converged,
    jax_fixed,
    optimistix,
    savi,
    torchdeq,
    torchopt,
)
from benchmarks.peers.systems.base import SYSTEMS, Answer, NotReached, Settings, System

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
