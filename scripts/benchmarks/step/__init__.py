"""How long does an outer step take, and what for?"""

from benchmarks.step.run import run_step
from benchmarks.step.tables import certificate_share
from benchmarks.step.timing import Timing, interleaved
from benchmarks.step.uncertified import UnjudgedCholesky
from benchmarks.step.variants import Variant, variants

__all__ = [
    "Timing",
    "UnjudgedCholesky",
    "Variant",
    "certificate_share",
    "interleaved",
    "run_step",
    "variants",
]
