"""The systems under test, one file per package."""

from benchmarks.safety.systems import higher, savi, torchdeq, torchopt
from benchmarks.safety.systems.base import SYSTEMS, Answer, NotExpressible, System

__all__ = [
    "SYSTEMS",
    "Answer",
    "NotExpressible",
    "System",
    "higher",
    "savi",
    "torchdeq",
    "torchopt",
]
