"""The implicit function theorem on problems other than inference."""

from savi.implicit.hypergradient import Hypergradient, hypergradient
from savi.implicit.hypergradient_certificate import HypergradientCertificate
from savi.implicit.kkt import KKTSolution, kkt
from savi.implicit.problem import Problem
from savi.implicit.qp import QPError, QPLayer, QPSolution, QPStatus, QPWarning
from savi.implicit.root import ImplicitSolution, root
from savi.implicit.root_certificate import RootCertificate
from savi.implicit.softmax import softmax
from savi.implicit.sparsemax import SparsemaxSolution, sparsemax, sparsemax_solution

__all__ = [
    "Hypergradient",
    "HypergradientCertificate",
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
    "hypergradient",
    "kkt",
    "root",
    "softmax",
    "sparsemax",
    "sparsemax_solution",
]
