"""How long does an outer step take, and what for?"""

from savi.benchmark.step.run import run_step
from savi.benchmark.step.tables import certificate_share
from savi.benchmark.step.timing import Timing, interleaved
from savi.benchmark.step.uncertified import UnjudgedCholesky, without_certificate
from savi.benchmark.step.variants import Variant, variants

__all__ = [
    "Timing",
    "UnjudgedCholesky",
    "Variant",
    "certificate_share",
    "interleaved",
    "run_step",
    "variants",
    "without_certificate",
]
