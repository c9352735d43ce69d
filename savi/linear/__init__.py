"""Per-example linear solvers, by the names that configs use."""

from savi.linear.base import SOLVERS, LinearSolution, LinearSolver, LinearStatus, SymmetricOperator
from savi.linear.cholesky import Cholesky
from savi.linear.conjugate_gradients import ConjugateGradients

__all__ = [
    "SOLVERS",
    "Cholesky",
    "ConjugateGradients",
    "LinearSolution",
    "LinearSolver",
    "LinearStatus",
    "SymmetricOperator",
]
