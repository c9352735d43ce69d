"""Quadratic programs as a layer, after OptNet."""

from savi.implicit.qp.layer import QPLayer
from savi.implicit.qp.solution import QPError, QPSolution, QPStatus, QPWarning

__all__ = ["QPError", "QPLayer", "QPSolution", "QPStatus", "QPWarning"]
