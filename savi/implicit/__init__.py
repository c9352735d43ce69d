"""The implicit function theorem on problems other than inference."""

from savi.implicit.certificate import RootCertificate
from savi.implicit.kkt import KKTSolution, kkt
from savi.implicit.problem import Problem
from savi.implicit.root import ImplicitSolution, root

__all__ = ["ImplicitSolution", "KKTSolution", "Problem", "RootCertificate", "kkt", "root"]
