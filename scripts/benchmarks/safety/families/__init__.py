"""One file per family of problems."""

from benchmarks.safety.families import (
    ill_conditioned,
    kinks,
    not_converged,
    not_finite,
    saddles,
    singular,
    stopped_early,
    tiny_cotangents,
    well_posed,
)

__all__ = [
    "ill_conditioned",
    "kinks",
    "not_converged",
    "not_finite",
    "saddles",
    "singular",
    "stopped_early",
    "tiny_cotangents",
    "well_posed",
]
