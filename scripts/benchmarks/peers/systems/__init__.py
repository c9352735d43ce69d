"""The systems under test: this library, those upon PyTorch, and those in JAX."""

from benchmarks.peers.systems import jax, optimistix, savi, torch
from benchmarks.peers.systems.base import SYSTEMS, Answer, NotReached, Settings, System

__all__ = [
    "SYSTEMS", "Answer", "NotReached", "Settings", "System", "jax", "optimistix", "savi", "torch",
]  # fmt: skip
