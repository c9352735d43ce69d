"""The implicit function theorem on problems other than inference."""

from savi.implicit.certificate import RootCertificate
from savi.implicit.kkt import KKTSolution, kkt
from savi.implicit.problem import Problem
from savi.implicit.qp import QPError, QPLayer, QPSolution, QPStatus, QPWarning
from savi.implicit.root import ImplicitSolution, root
from savi.implicit.softmax import softmax
from savi.implicit.sparsemax import SparsemaxSolution, sparsemax, sparsemax_solution

__all__ = [
    "ImplicitSolution",
    "KKTSolution",
    "Problem",
    "QPError",
    "QPLayer",
    "QPSolution",
    "QPStatus",
    "QPWarning",
    "RootCertificate",
    "SparsemaxSolution",
    "kkt",
    "root",
    "softmax",
    "sparsemax",
    "sparsemax_solution",
]
