"""Does a library say so when its gradient is wrong?"""

from benchmarks.safety import families
from benchmarks.safety.judge import Outcome, Verdict, judge
from benchmarks.safety.problem import CONTROL, FAMILIES, Problem
from benchmarks.safety.run import run_safety
from benchmarks.safety.systems import SYSTEMS, System

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
