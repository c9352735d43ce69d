"""How long does a batch of quadratic programs take?"""

from benchmarks.qp.problems import Programs, random_programs
from benchmarks.qp.run import run_qp
from benchmarks.qp.systems import Answer, solvers

__all__ = ["Answer", "Programs", "random_programs", "run_qp", "solvers"]
