"""Per-example linear solvers, by the names that configs use."""

from savi.linear.base import SOLVERS, LinearSolution, LinearSolver, LinearStatus, SymmetricOperator
from savi.linear.conjugate_gradients import ConjugateGradients
from savi.linear.dense import LDL, Cholesky, GaussNewtonSolve
from savi.linear.gmres import GMRES
from savi.linear.minres import MINRES
from savi.linear.neumann import Neumann
from savi.linear.nystrom import Nystrom

__all__ = [
    "GMRES",
    "LDL",
    "MINRES",
    "SOLVERS",
    "Cholesky",
    "ConjugateGradients",
    "GaussNewtonSolve",
    "LinearSolution",
    "LinearSolver",
    "LinearStatus",
    "Neumann",
    "Nystrom",
    "SymmetricOperator",
]
