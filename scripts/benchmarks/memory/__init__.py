"""How does the memory of an outer step grow with the number of inner steps?"""

from benchmarks.memory.measure import Usage, measure
from benchmarks.memory.run import run_memory
from benchmarks.memory.targets import peak_target, saved_target

__all__ = ["Usage", "measure", "peak_target", "run_memory", "saved_target"]
