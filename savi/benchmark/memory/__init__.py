"""How does the memory of an outer step grow with the number of inner steps?"""

from savi.benchmark.memory.measure import Usage, measure
from savi.benchmark.memory.run import run_memory
from savi.benchmark.memory.targets import peak_target, saved_target

__all__ = ["Usage", "measure", "peak_target", "run_memory", "saved_target"]
