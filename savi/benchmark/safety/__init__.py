"""Does a library say so when its gradient is wrong?"""

from savi.benchmark.safety import families
from savi.benchmark.safety.judge import Outcome, Verdict, judge
from savi.benchmark.safety.problem import CONTROL, FAMILIES, Problem
from savi.benchmark.safety.run import run_safety
from savi.benchmark.safety.systems import SYSTEMS, System

__all__ = [
    "CONTROL",
    "FAMILIES",
    "SYSTEMS",
    "Outcome",
    "Problem",
    "System",
    "Verdict",
    "families",
    "judge",
    "run_safety",
]
