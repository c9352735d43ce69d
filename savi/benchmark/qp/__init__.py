"""How long does a batch of quadratic programs take?"""

from savi.benchmark.qp.problems import Programs, random_programs
from savi.benchmark.qp.run import run_qp
from savi.benchmark.qp.systems import Answer, solvers

__all__ = ["Answer", "Programs", "random_programs", "run_qp", "solvers"]
